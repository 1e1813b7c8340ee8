"""Models are loaded, replaced and unloaded by HTTP, by SIGHUP and by watching the folder; what is wrong is refused."""

import hashlib
import os
import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import onnx
import pytest
import tritonclient.http as triton
from tritonclient.utils import InferenceServerException

from tests.artifacts import LABELS, make_artifact
from tests.service.pictures import check, pixels, png
from tests.service.served import DEADLINE_S, Served, until
from tests.service.test_api_keys import line

FEWER = LABELS[:7]
KEY, PREDICT_KEY = "the-key-of-an-operator", "the-key-of-a-client"
REFUSED, DONE = 'resnet_model_swaps_total{outcome="refused"}', 'resnet_model_swaps_total{outcome="done"}'


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("changing")
    for name in ("main", "other"):
        make_artifact(path, name)
    make_artifact(path, "wrong", golden_error=1.0)  # which hinders no change of the others
    (path / os.fsdecode(b"no text \xff")).mkdir()  # nor does this, whose name no JSON can hold
    return path


@pytest.fixture(scope="module")
def served(repository: Path) -> Iterator[Served]:
    keys = line("operator", "predict,admin", KEY) + line("client", "predict", PREDICT_KEY)
    flags = ("--workers", "1", "--api-processes", "2", "--max-batch-size", "2", "--poll-repository", "0.3")
    models = ("--model-repository", repository, "--default-model", "main", "--admin-api")
    with Served(*models, *flags, RESNET_SERVE_API_KEYS=keys.replace("\n", ";")) as served:
        yield served.ready()
        assert served.stop() == 0, served.log


def ask(served: Served, method: str, path: str, status: int = 200, key: str = KEY) -> dict[str, Any]:
    answer = httpx.request(method, served.url + path, headers={"X-API-Key": key}, timeout=DEADLINE_S)
    assert answer.status_code == status, answer.text
    document: dict[str, Any] = answer.json()
    return document


def versions(served: Served) -> dict[str, str]:
    """What is served."""
    documents = ask(served, "GET", "/models")["models"]
    return {one["name"]: one["version"] for one in documents if one["state"] == "ready"}


def predict(served: Served, name: str) -> httpx.Response:
    url = f"{served.url}/models/{name}/predict"
    return httpx.post(url, content=png(), headers={"X-API-Key": KEY}, timeout=DEADLINE_S)


def classify(served: Served, name: str, labels: tuple[str, ...]) -> None:
    """Fail unless the model answers, with these labels."""
    answer = predict(served, name)
    assert answer.status_code == 200, answer.text
    check(answer.json(), pixels(), labels)


def test_a_model_is_unloaded_loaded_replaced_and_a_version_deleted(served: Served, repository: Path) -> None:
    assert ask(served, "POST", "/models/other/unload")["changed"]
    assert versions(served) == {"main": "1"}
    assert predict(served, "other").status_code == 404
    staged = repository.parent / "staged"
    make_artifact(staged, "other", 2, labels=FEWER)
    (staged / "other" / "2").rename(repository / "other" / "2")
    loaded = ask(served, "POST", "/models/other/load")
    assert loaded == {"changed": True, "models": [{"name": "main", "version": "1"}, {"name": "other", "version": "2"}]}
    classify(served, "other", FEWER)
    assert ask(served, "POST", "/models/other/versions/1/load")["changed"]
    classify(served, "other", LABELS)
    assert not ask(served, "POST", "/models/other/versions/1/load")["changed"]
    assert ask(served, "DELETE", "/models/other/versions/1")["changed"]
    classify(served, "other", FEWER)
    assert served.metrics()[DONE] == 4


def test_triton_s_client_unloads_and_loads_a_model(served: Served) -> None:
    headers = {"X-API-Key": KEY}
    with triton.InferenceServerClient("{}:{}".format(*served.address), network_timeout=DEADLINE_S) as client:
        client.unload_model("other", headers=headers)
        assert "other" not in versions(served)
        assert not client.is_model_ready("other")
        client.load_model("other", headers=headers)
        assert client.is_model_ready("other")
        index = client.get_model_repository_index(headers=headers)
        assert {"name": "other", "version": "2", "state": "READY", "reason": ""} in index
        with pytest.raises(InferenceServerException, match="no model 'zebra' in the repository"):
            client.load_model("zebra", headers=headers)
        with pytest.raises(InferenceServerException, match="models come from the repository"):
            client.load_model("other", headers=headers, config="{}")
        with pytest.raises(InferenceServerException, match="it needs the scope admin"):
            client.unload_model("other", headers={"X-API-Key": PREDICT_KEY})


@pytest.mark.parametrize(
    ("method", "path", "status", "says"),
    [
        ("POST", "/models/main/unload", 409, "main answers /predict"),
        ("DELETE", "/models/main/versions/1", 409, "main answers /predict"),
        (
            "POST",
            "/models/zebra/load",
            409,
            "no model 'zebra' in the repository, which holds: main, no text \\udcff, o",
        ),
        ("POST", "/models/zebra/unload", 409, "no model 'zebra' here"),
        ("POST", "/models/main/versions/9/load", 409, "no version 9 of main"),
        ("POST", "/models/main/versions/zero/load", 404, "no version"),
        ("POST", "/models/%2e%2e/load", 409, "no model '..'"),
        ("POST", "/models/wrong/load", 409, "golden example"),
        ("GET", "/models/main/load", 405, "use POST"),
    ],
)
def test_what_cannot_be_changed_is_refused_with_the_reason(
    served: Served, method: str, path: str, status: int, says: str
) -> None:
    before = versions(served)
    assert says in ask(served, method, path, status)["detail"]
    assert versions(served) == before


def test_a_folder_that_changes_is_served_once_it_is_whole(served: Served, repository: Path) -> None:
    refused = served.metrics()[REFUSED]
    staged = make_artifact(repository.parent / "staged", "main", 2, labels=FEWER)
    target = repository / "main" / "2"
    target.mkdir()
    shutil.copy(staged / "model.onnx", target)  # and no SHA256SUMS yet
    until(lambda: served.metrics()[REFUSED] > refused, "the half to be refused")
    assert versions(served)["main"] == "1"
    assert "SHA256SUMS is missing" in served.events("model failed", model="main")[-1]["reason"]
    shutil.copy(staged / "SHA256SUMS", target)
    until(lambda: versions(served)["main"] == "2", "the whole to be served")
    classify(served, "main", FEWER)
    shutil.rmtree(target)
    until(lambda: versions(served)["main"] == "1", "the older one")
    classify(served, "main", LABELS)


def test_a_version_that_fails_its_proof_is_tried_once_and_again_when_asked(served: Served, repository: Path) -> None:
    make_artifact(repository.parent / "staged", "main", 3, golden_error=1.0).rename(repository / "main" / "3")
    until(lambda: served.events("model failed", model="main", version="3"), "the wrong one to be refused")
    tries = len(served.events("model failed", model="main", version=3))  # of workers
    assert tries == 1
    assert versions(served)["main"] == "1"
    served.signal(signal.SIGHUP)
    until(lambda: len(served.events("model failed", model="main", version=3)) == 2, "another try")
    assert "golden example" in ask(served, "POST", "/models/main/load", 409)["detail"]
    shutil.rmtree(repository / "main" / "3")


def rewrite(version: Path, model: bytes) -> None:
    """Another graph, with a digest that is right."""
    (version / "model.onnx").write_bytes(model)
    (version / "SHA256SUMS").write_text(f"{hashlib.sha256(model).hexdigest()}  model.onnx\n")


def take_away(version: Path) -> None:
    (version / "model.onnx").unlink()


def cut(version: Path) -> None:
    os.truncate(version / "model.onnx", 1000)


def make_text(version: Path) -> None:
    rewrite(version, b"not a network")


def point_outside(version: Path) -> None:
    line = (version / "SHA256SUMS").read_text().replace("model.onnx", "../1/model.onnx")
    (version / "SHA256SUMS").write_text(line)


def link_out(version: Path) -> None:
    version.symlink_to(version.rename(version.parents[2] / "outside"))


def make_pipe(version: Path) -> None:
    take_away(version)
    os.mkfifo(version / "model.onnx")


def keep_tensors_elsewhere(version: Path) -> None:
    model = onnx.load(version / "model.onnx")
    onnx.external_data_helper.set_external_data(model.graph.initializer[0], "/etc/passwd")
    rewrite(version, model.SerializeToString())


USUAL: dict[str, Any] = {"labels": FEWER}


@pytest.mark.parametrize(
    ("options", "damage", "says"),
    [
        (USUAL, take_away, "missing: model.onnx"),
        (USUAL, cut, "model.onnx has SHA-256"),
        (USUAL, make_text, "not an ONNX model"),
        (USUAL, point_outside, "SHA256SUMS line 1 is not"),
        (USUAL, link_out, "leads out of the repository"),
        (USUAL, make_pipe, "model.onnx is no regular file"),
        (USUAL, keep_tensors_elsewhere, "keeps tensors in external files"),
        ({"shape": (12, 12, 3)}, None, "start the server with --largest-input 432"),
        ({"labels": tuple(map(str, range(11)))}, None, "start the server with --most-classes 11"),
    ],
    ids=["missing", "half", "text", "traversal", "link", "pipe", "external", "large", "classes"],
)
def test_a_bad_artifact_is_refused_with_the_reason_while_the_old_one_serves(
    served: Served,
    repository: Path,
    tmp_path: Path,
    options: dict[str, Any],
    damage: Callable[[Path], None] | None,
    says: str,
) -> None:
    target = repository / "main" / "4"
    make_artifact(tmp_path, "main", 4, **options).rename(target)
    if damage:
        damage(target)
    detail = ask(served, "POST", "/models/main/versions/4/load", 409)["detail"]
    assert says in detail
    assert str(repository) not in detail
    classify(served, "main", LABELS)
    target.unlink() if target.is_symlink() else shutil.rmtree(target)
    shutil.rmtree(repository.parent / "outside", ignore_errors=True)


def test_a_key_without_the_scope_admin_changes_nothing(served: Served) -> None:
    ask(served, "POST", "/models/other/unload", 403, PREDICT_KEY)
    assert "other" in versions(served)


def test_without_such_a_key_the_server_does_not_start(repository: Path) -> None:
    keys = line("client", "predict", PREDICT_KEY).strip()
    with Served(
        "--model-repository", repository, "--default-model", "main", "--admin-api", RESNET_SERVE_API_KEYS=keys
    ) as served:
        assert served.wait() == 2
        assert "needs an API key with the scope admin" in served.log
