"""The routes beside prediction."""

from typing import Any

import httpx
import pytest

from models.artifact.artifact import read_artifact
from service.catalog.repository import Repository
from service.catalog.served_model import ModelLookup
from service.ipc.reports import ModelReport
from service.prediction.model_status import ModelStatus
from service.routes.routes import ROUTES
from tests.artifacts import LABELS
from tests.service.pictures import png
from tests.service.served import Served
from tests.service.stock import COLOUR_LABELS, COLOUR_SHAPE


def test_models_lists_what_is_served_and_what_failed(client: httpx.Client) -> None:
    models = {model["name"]: model for model in client.get("/models").json()["models"]}
    assert {name: model["state"] for name, model in models.items()} == {
        "plain": "ready",
        "colour": "ready",
        "faulty": "ready",
        "wrong": "failed",
        "damaged": "failed",
    }
    assert [name for name, model in models.items() if model.get("default")] == ["plain"]
    assert "golden example" in models["wrong"]["reason"]
    assert models["damaged"]["reason"].startswith("1: model.onnx has SHA-256")


def test_no_client_learns_where_the_server_looks_for_its_models(
    server: Served, client: httpx.Client, repository: Any
) -> None:
    told = [client.get("/models"), client.get("/models/damaged"), client.post("/models/damaged/predict", content=png())]
    assert not [answer.text for answer in told if str(repository.parent) in answer.text]
    (failure,) = server.events("model failed", model="damaged")
    assert failure["reason"].startswith(str(repository / "damaged" / "1"))


@pytest.mark.parametrize(
    ("reason", "told"),
    [
        (
            "Failed to load library /usr/lib/python3/ort/lib.so: libcudnn.so.9",
            "Failed to load library lib.so: libcudnn.so.9",
        ),
        ("[/a/b]: '/c/d/e'; (/f/g)", "[b]: 'e'; (g)"),
        ("model/1: 3/4 at https://host/path, and/or", "model/1: 3/4 at https://host/path, and/or"),
    ],
)
def test_what_an_engine_says_of_a_failure_is_told_without_directories(repository: Any, reason: str, told: str) -> None:
    catalog = Repository(repository).read("plain")
    models = ModelLookup(catalog, 1).by_index
    status = ModelStatus(catalog, models)
    status.worker_up(0, [ModelReport(model.index, "failed", reason=reason) for model in models.values()])
    assert [status.describe_all()[0]["reason"], models[0].failure] == [told, told]


def test_a_model_tells_what_a_client_must_know(client: httpx.Client, repository: Any) -> None:
    artifact = read_artifact(repository / "colour" / "1")
    document = client.get("/models/colour").json()
    height, width, channels = COLOUR_SHAPE
    expected = {
        "name": "colour",
        "version": "1",
        "state": "ready",
        "default": False,
        "architecture": "linear",
        "sha256": artifact.sha256,
        "input": {"height": height, "width": width, "channels": channels, "dtype": "uint8"},
        "labels": list(COLOUR_LABELS),
        "metrics": {"dataset": "noise", "split": "test", "images": 1, "accuracy": 1.0},
        "engine": "onnxruntime",
        "device": "cpu",
        "precision": "fp32",
    }
    assert document | expected == document
    assert all(float(ms) > 0 for ms in document["batch_latency_ms"].values())
    assert str(document["max_batch_size"]) in document["batch_latency_ms"]


def test_each_model_is_told_alone_as_in_the_list_also_one_that_failed(client: httpx.Client) -> None:
    for model in client.get("/models").json()["models"]:
        assert client.get(f"/models/{model['name']}").json() == model


def test_the_highest_version_is_the_one_served(client: httpx.Client) -> None:
    document = client.get("/models/plain").json()
    assert (document["version"], document["labels"]) == ("2", list(LABELS))


def test_probes_answer_in_plain_words(client: httpx.Client) -> None:
    for path, text in (("/livez", "ok\n"), ("/readyz", "ready\n")):
        answer = client.get(path)
        assert (answer.status_code, answer.text) == (200, text)
        assert answer.headers["content-type"].startswith("text/plain")


def test_a_cache_may_keep_files_alone(client: httpx.Client) -> None:
    """Varnish gives for two minutes what says nothing of caches: a `/readyz`, the 404 of a model that is coming."""
    for path in (*ROUTES, "/models/plain", "/v2/models/plain", "/nowhere"):
        assert client.get(path).headers["cache-control"] == "no-store", path
    file = client.get("/docs/swagger-ui.css")
    assert "etag" in file.headers
    assert "cache-control" not in file.headers


def test_nothing_of_litserves_own_routes_is_left(server: Served) -> None:
    assert [server.status(path) for path in ("/health", "/info", "/shutdown")] == [404, 404, 404]


@pytest.mark.parametrize("path", ["/models/", "/docs/", "/v2/", "/models/plain/", "/predict/", "/v2/health/live/"])
def test_a_slash_too_many_is_no_route_and_sends_nobody_elsewhere(client: httpx.Client, path: str) -> None:
    """Where to is not known behind a proxy that speaks TLS or takes a prefix away."""
    answer = client.get(path, headers={"host": "elsewhere.example"})
    assert answer.status_code == 404
    assert "location" not in answer.headers
    assert path in answer.text
