"""A server with keys, asked by real clients: who gets answers, what is told of keys, and how they are exchanged."""

import hashlib
import os
import signal
import subprocess
from collections import Counter
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

import httpx
import pytest

from tests.faults.ledger import DEFAULT_ALONE, load
from tests.service.certificates import write_certificate
from tests.service.commands.shell import resnet_serve
from tests.service.pictures import png
from tests.service.served import DEADLINE_S, Served, Servers, until
from tests.service.wire import Wire, post

ALICE, ROOT, NEW = "alices-key-0123456789", "roots-key-0123456789", "alices-next-key-0123456789"


def line(name: str, scopes: str, key: str) -> str:
    return f"{name} {scopes} {hashlib.sha256(key.encode()).hexdigest()}\n"


FLAGS = ("--workers", "1", "--access-log", "all", "--log-format", "json")


@pytest.fixture(scope="module")
def guarded(serve_module: Servers, tmp_path_factory: pytest.TempPathFactory) -> Served:
    """A server with a key from a file and one from the environment."""
    file = tmp_path_factory.mktemp("keys") / "keys"
    file.write_text(line("alice", "predict", ALICE))
    return serve_module(*FLAGS, "--api-key-file", file, RESNET_SERVE_API_KEYS=line("root", "admin", ROOT)).ready()


@pytest.fixture
def asking(guarded: Served) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=guarded.url, timeout=DEADLINE_S) as client:
        yield client


@pytest.mark.parametrize("field", [f"Authorization: Bearer {ALICE}", f"X-API-Key: {ALICE}"])
def test_curl_is_answered_with_a_key(guarded: Served, field: str) -> None:
    command = ["curl", "-sS", "--data-binary", "@-", "-H", field, "-w", "%{http_code}", f"{guarded.url}/predict"]
    done = subprocess.run(command, input=png(), capture_output=True, timeout=DEADLINE_S, check=True)
    assert done.stdout.endswith(b"200")


@pytest.mark.parametrize(
    ("method", "path", "key", "status", "challenge"),
    [
        ("POST", "/predict", None, 401, 'Bearer realm="resnet-serve"'),
        ("POST", "/predict", ALICE + "x", 401, 'Bearer realm="resnet-serve", error="invalid_token"'),
        ("POST", "/predict", ROOT, 403, 'error="insufficient_scope", scope="predict"'),
        ("POST", "/models/nothing/predict", None, 401, "Bearer"),  # strangers do not learn which models there are
        ("GET", "/models", None, 401, "Bearer"),
        ("GET", "/models/nothing", None, 401, "Bearer"),
        ("HEAD", "/models", None, 401, "Bearer"),
        ("GET", "/models", ROOT, 403, 'scope="predict"'),
        ("GET", "/models", ALICE, 200, ""),
        ("HEAD", "/models", ALICE, 200, ""),
        ("GET", "/livez", None, 200, ""),
        ("GET", "/readyz", None, 200, ""),
        ("GET", "/metrics", None, 200, ""),
        ("GET", "/docs", None, 200, ""),
        ("GET", "/openapi.json", None, 200, ""),
        ("GET", "/nowhere", None, 404, ""),
    ],
)
def test_who_may_ask_for_what(
    asking: httpx.Client, method: str, path: str, key: str | None, status: int, challenge: str
) -> None:
    headers = {"authorization": f"Bearer {key}"} if key else {}
    answer = asking.request(method, path, content=png() if method == "POST" else None, headers=headers)
    assert answer.status_code == status
    assert challenge in answer.headers.get("www-authenticate", "")
    assert ("www-authenticate" in answer.headers) == bool(challenge)
    if status in (401, 403) and method != "HEAD":
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.json()["code"] == {401: "unauthorized", 403: "forbidden"}[status]


def test_a_stranger_is_refused_before_the_body_has_come(guarded: Served) -> None:
    with Wire(guarded.address) as wire:
        wire.send(post(png(), "/predict", "Expect: 100-continue")[: -len(png())])
        assert wire.answer().status == 401  # and no 100 before it
    with Wire(guarded.address) as wire:
        wire.send(post(png())[:-10])
        assert wire.answer().status == 401


def test_a_connection_has_no_key_only_requests_have(guarded: Served) -> None:
    with Wire(guarded.address) as wire:
        for key, status in ((ALICE, 200), ("wrong", 401), (ALICE, 200), ("", 401), (ROOT, 403)):
            wire.send(post(png(), "/predict", f"X-API-Key: {key}"))
            assert wire.answer().status == status


def test_the_name_of_a_key_stands_in_log_and_metrics_and_the_key_nowhere(guarded: Served) -> None:
    series = {
        (key, decision): f'resnet_key_requests_total{{decision="{decision}",key="{key}"}}'
        for key, decision in (("alice", "admitted"), ("root", "forbidden"), ("", "unknown"))
    }
    before = Counter({series: value for series, value in guarded.metrics().items() if series.startswith("resnet_key")})
    asked = ((ALICE, png()), (ALICE, b"no image"), (ROOT, png()), ("a-wrong-one-0123456789", png()))
    for number, (key, content) in enumerate(asked):
        headers = {"x-api-key": key, "x-request-id": f"named-{number}"}
        httpx.post(f"{guarded.url}/predict", content=content, headers=headers, timeout=DEADLINE_S)
    after = Counter(guarded.metrics())
    grown = {which: after[name] - before[name] for which, name in series.items()}
    assert grown == {("alice", "admitted"): 2, ("root", "forbidden"): 1, ("", "unknown"): 1}
    for number, name in enumerate(("alice", "alice", "root", None)):
        assert guarded.wait_for_event("request", request_id=f"named-{number}").get("key") == name
    until(lambda: guarded.events("request", status=401), "the refusals")
    for key in (ALICE, ROOT, "a-wrong-one"):
        assert key not in guarded.log
        assert hashlib.sha256(key.encode()).hexdigest() not in guarded.log


def test_who_is_refused_is_noted_by_the_route_that_was_asked_for(guarded: Served, asking: httpx.Client) -> None:
    route = "/v2/models/{model}/stats"
    series = f'resnet_http_requests_total{{code="401",method="GET",route="{route}"}}'
    before = guarded.metrics().get(series, 0)
    problem = asking.get("/v2/models/plain/stats", headers={"X-Request-ID": "stranger"})
    noted = guarded.wait_for_event("request", request_id="stranger")
    assert (noted["route"], noted["status"], noted["code"]) == (route, 401, "unauthorized")
    assert noted["detail"] == problem.json()["error"]
    assert guarded.metrics()[series] == before + 1


def test_predict_from_the_shell_takes_a_key(guarded: Served, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "1.png").write_bytes(png())
    ask = ("predict", "--url", guarded.url, "1.png")
    code, out, _ = resnet_serve(*ask, cwd=tmp_path)
    assert code == 1
    assert "an API key is needed" in out
    assert resnet_serve(*ask, "--api-key", ALICE, cwd=tmp_path)[0] == 0
    monkeypatch.setenv("RESNET_API_KEY", ALICE)
    assert resnet_serve(*ask, cwd=tmp_path)[0] == 0


def test_without_keys_everyone_may_ask(server: Served) -> None:
    assert httpx.post(f"{server.url}/predict", content=png(), timeout=DEADLINE_S).status_code == 200
    assert not [series for series in server.metrics() if series.startswith("resnet_key_requests")]


def test_a_pipe_in_the_place_of_a_file_keeps_the_supervisor_from_nothing(
    serve: Servers, repository: Path, tmp_path: Path
) -> None:
    """To open a pipe is to wait for its writer."""
    files, keys = write_certificate(tmp_path), tmp_path / "keys"
    keys.write_text(line("alice", "predict", ALICE))
    models = ("--model-repository", repository, "--default-model", "plain")
    tls = ("--tls-certificate", files.certificate, "--tls-key", files.key)
    served = serve(*FLAGS, *models, *tls, "--api-key-file", keys)
    served.wait_for_event("worker up")
    for path in (keys, files.key):
        path.unlink()
        os.mkfifo(path)
    served.signal(signal.SIGHUP)
    assert "is no file" in served.wait_for_event("keys not changed")["reason"]
    assert "is no file" in served.wait_for_event("certificates not changed")["reason"]
    assert served.stop() == 0


def test_keys_are_exchanged_under_load_without_a_failed_request(
    serve: Servers, repository: Path, tmp_path: Path
) -> None:
    """Both keys are good, then clients take the new one, then the old one is withdrawn."""
    file = tmp_path / "keys"
    file.write_text(line("alice", "predict", ALICE))
    models = ("--model-repository", repository, "--default-model", "plain")
    served = serve(*FLAGS, *models, "--api-processes", "2", "--api-key-file", file).ready()

    def reload(keys: str) -> None:
        before = len(served.events("keys changed"))
        file.write_text(keys)
        served.signal(signal.SIGHUP)
        until(lambda: len(served.events("keys changed")) == before + 2, "both processes to have the keys")

    with load(served, connections=4, questions=DEFAULT_ALONE, key=ALICE) as ledger:
        reload(line("alice", "predict", ALICE) + line("alice", "predict", NEW))
        ledger.wait_for(50)
        ledger.take_key(NEW)
        ledger.wait_for(50)
        reload(line("alice", "predict", NEW))
        ledger.wait_for(50)
    assert ledger.summary().keys() == {(200, "")}
    for _ in range(8):  # either process
        answer = httpx.post(f"{served.url}/predict", content=png(), headers={"x-api-key": ALICE}, timeout=DEADLINE_S)
        assert answer.status_code == 401
    file.write_text("alice predict not-a-digest\n")
    served.signal(signal.SIGHUP)
    reason = served.wait_for_event("keys not changed")["reason"]
    assert reason.startswith(f"--api-key-file {file}, line 1: its last word is no SHA-256")
    answer = httpx.post(f"{served.url}/predict", content=png(), headers={"x-api-key": NEW}, timeout=DEADLINE_S)
    assert answer.status_code == 200
    assert served.stop() == 0


def test_what_a_key_opens_is_kept_by_no_cache(asking: httpx.Client) -> None:
    answer = asking.get("/models", headers={"x-api-key": ALICE})
    assert answer.headers["cache-control"] == "no-store"


def test_the_openapi_document_tells_how_keys_are_sent(asking: httpx.Client) -> None:
    document = asking.get("/openapi.json").json()
    schemes = document["components"]["securitySchemes"]
    assert (schemes["bearer"]["scheme"], schemes["header"]["name"]) == ("bearer", "X-API-Key")
    assert document["paths"]["/predict"]["post"]["security"] == [{"bearer": []}, {"header": []}]
    assert "security" not in document["paths"]["/readyz"]["get"]


def test_no_answer_to_a_stranger_tells_what_answers(asking: httpx.Client) -> None:
    for method, path in (
        ("GET", "/livez"),
        ("GET", "/nowhere"),
        ("POST", "/predict"),
        ("GET", "/docs"),
        ("PUT", "/v2"),
    ):
        answer = asking.request(method, path)
        assert not {"server", "x-powered-by", "via"} & answer.headers.keys()
        assert answer.headers["x-content-type-options"] == "nosniff"
        for program in ("uvicorn", "fastapi", "starlette", "litserve", version("resnet-serve")):
            assert program not in answer.text.lower() + str(answer.headers).lower()
