"""A whole server, and the other commands, with models from a web server: while it is there, and when it is gone."""

import signal
from pathlib import Path

import httpx

from tests.artifacts import make_artifact
from tests.service.commands.shell import resnet_serve, rows
from tests.service.pictures import check, pixels, png
from tests.service.remote.stores import web
from tests.service.served import DEADLINE_S, Served, Servers, until
from tests.signing import make_keys, sign


def answers(served: Served, version: str = "1") -> None:
    """It predicts as this version should."""
    answer = httpx.post(f"{served.url}/predict", content=png(), timeout=DEADLINE_S).json()
    assert answer["version"] == version
    check(answer, pixels())


def test_models_of_a_store_are_served_also_when_it_is_gone(serve: Servers, tmp_path: Path) -> None:
    released, cache = tmp_path / "released", tmp_path / "cache"
    make_artifact(released, "plain")
    (tmp_path / "picture.png").write_bytes(png())
    with web(released) as store:
        flags = ["--model-repository", store.url, "--cache-dir", cache]
        first = serve(*flags, "--workers", "1").ready()
        answers(first)
        assert first.events("repository") == []

        code, out, _ = resnet_serve("check", store.url, "--cache-dir", cache, cwd=tmp_path)
        assert (code, rows(out)[0][:2]) == (0, ["plain/1", "ready"])
        code, out, errors = resnet_serve("predict", "picture.png", *flags, cwd=tmp_path)
        assert (code, errors) == (0, "")
        assert len(rows(out)) == 3

        make_artifact(released, "plain", 2)
        first.signal(signal.SIGHUP)
        assert first.wait_for_event("models changed")["loaded"] == ["plain/2"]
        answers(first, "2")
        assert first.metrics()["resnet_repository_problems"] == 0

    first.signal(signal.SIGHUP)
    event = first.wait_for_event("repository", level="error")
    assert event["reason"].startswith("the copy of 20")
    assert first.metrics()["resnet_repository_problems"] == 1
    answers(first, "2")
    assert first.stop() == 0

    second = serve(*flags, "--workers", "1").ready()
    answers(second, "2")
    (event,) = second.events("repository", level="error")
    assert f"{store.url} cannot be reached" in event["reason"]
    assert second.metrics()["resnet_repository_problems"] == 1

    third = serve("--model-repository", store.url, "--cache-dir", tmp_path / "other")
    assert third.wait() == 1
    (refusal,) = third.events("not started")
    assert refusal["reason"].startswith(f"{store.url} cannot be reached")


def test_a_store_is_looked_at_and_what_is_new_there_is_served(serve: Servers, tmp_path: Path) -> None:
    """Once it denies what it gave before, that is a problem of the store, and no change."""
    released = tmp_path / "released"
    make_artifact(released, "plain")
    flags = ["--cache-dir", tmp_path / "cache", "--workers", "1", "--poll-repository", "0.3"]
    with web(released) as store:
        served = serve("--model-repository", store.url, *flags).ready()
        make_artifact(released, "plain", 2)
        assert served.wait_for_event("models changed")["loaded"] == ["plain/2"]
        answers(served, "2")
        store.login = "reader", "secret"
        assert "no permission to read" in served.wait_for_event("repository not watched", level="error")["reason"]
        assert served.metrics()["resnet_repository_problems"] == 1
        assert served.events("change refused") == []
    assert served.stop() == 0


def test_nothing_is_read_while_a_look_at_the_store_copies_it(serve: Servers, tmp_path: Path) -> None:
    """What is half there would be read, and refused or taken for all."""
    released = tmp_path / "released"
    make_artifact(released, "plain")
    flags = ["--cache-dir", tmp_path / "cache", "--workers", "1", "--poll-repository", "0.3"]
    with web(released) as store:
        served = serve("--model-repository", store.url, *flags).ready()
        store.open.clear()
        try:
            make_artifact(released, "plain", 2)
            before = store.requests.total()
            until(lambda: store.requests.total() > before, "a look, which the store lets wait")
            for times in (1, 2):  # with the second, what follows from the first is done
                served.signal(signal.SIGHUP)
                until(lambda times=times: len(served.events("reloading")) == times, "the signal to be heard")
            assert served.events("models are read") == []
        finally:
            store.open.set()
        assert served.wait_for_event("models changed")["loaded"] == ["plain/2"]
        answers(served, "2")
        assert served.events(level="error") == []
    assert served.stop() == 0


def test_only_signed_models_are_served_where_that_is_required(serve: Servers, tmp_path: Path) -> None:
    """The newer version has none, so the older one is served; the other commands tell."""
    private, public = make_keys(tmp_path, "release")
    sign(make_artifact(tmp_path / "released", "plain", 1), private)
    make_artifact(tmp_path / "released", "plain", 2)
    served = serve("--model-repository", tmp_path / "released", "--require-signature", public, "--workers", "1")
    answers(served.ready())
    (event,) = served.events("an older version is served")
    assert (event["version"], event["instead_of"]) == (1, ["2"])
    (failure,) = served.events("model failed")
    assert "model.sig is missing" in failure["reason"]

    code, out, _ = resnet_serve("check", "released", "--require-signature", "release.pub", cwd=tmp_path)
    assert code == 1
    assert "plain/2: " in out
    assert "model.sig is missing" in out
    code, _, errors = resnet_serve("--require-signature", "release.pem", cwd=tmp_path)
    assert code == 1
    assert "release.pem is no public key that signs models" in errors
