"""The routes beside prediction, and that the OpenAPI document tells the truth about all of them."""

import base64
from typing import Any

import httpx
import pytest
from jsonschema import Draft202012Validator

from models.artifact.artifact import read_artifact
from tests.artifacts import LABELS
from tests.service.pictures import png
from tests.service.served import Served
from tests.service.stock import COLOUR_LABELS, COLOUR_SHAPE, FAILING, MAX_BODY_BYTES

Document = dict[str, Any]


@pytest.fixture(scope="module")
def openapi(client: httpx.Client) -> Document:
    answer = client.get("/openapi.json")
    assert answer.status_code == 200
    document: Document = answer.json()
    return document


def schema_of(openapi: Document, answer: httpx.Response, route: str) -> Draft202012Validator:
    """What the document says of this answer's body."""
    operation = openapi["paths"][route][answer.request.method.lower()]
    content = operation["responses"][str(answer.status_code)]["content"]
    schema = content[answer.headers["content-type"].partition(";")[0]]["schema"]
    return Draft202012Validator(schema | {"components": openapi["components"]})


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
    assert "SHA-256" in models["damaged"]["reason"]


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


def test_docs_shows_the_openapi_document(client: httpx.Client) -> None:
    answer = client.get("/docs")
    assert answer.headers["content-type"].startswith("text/html")
    assert "/openapi.json" in answer.text


def test_openapi_knows_every_route_and_every_schema_is_one(openapi: Document) -> None:
    predict = {
        "/predict",
        "/models/{model}/predict",
        "/models/{model}/versions/{version}/predict",
        "/predictions/{model}",
    }
    assert openapi["paths"].keys() == predict | {"/models", "/models/{model}", "/livez", "/readyz", "/metrics"}
    assert all(openapi["paths"][path].keys() == {"post", "put"} for path in predict)
    for schema in openapi["components"]["schemas"].values():
        Draft202012Validator.check_schema(schema)


def test_every_operation_has_its_own_id(openapi: Document) -> None:
    ids = [operation["operationId"] for path in openapi["paths"].values() for operation in path.values()]
    assert len(ids) == len(set(ids))


def test_every_path_parameter_is_described(openapi: Document) -> None:
    for path, operations in openapi["paths"].items():
        for operation in operations.values():
            described = {one["name"] for one in operation.get("parameters", []) if one["in"] == "path"}
            assert described == {part.strip("{}") for part in path.split("/") if part.startswith("{")}


B64 = base64.b64encode(png()).decode()


@pytest.mark.parametrize(
    ("route", "request_with", "status"),
    [
        ("/predict", {"method": "POST", "content": png()}, 200),
        ("/predict", {"method": "PUT", "content": png()}, 200),
        ("/predict", {"method": "POST", "json": {"images": [B64, "AAAA"]}}, 200),
        ("/models/{model}/predict", {"method": "POST", "content": png()}, 200),
        ("/models/{model}/versions/{version}/predict", {"method": "POST", "content": png()}, 200),
        ("/predictions/{model}", {"method": "POST", "content": png()}, 200),
        ("/predict", {"method": "POST", "content": b""}, 400),
        ("/models/{model}/versions/{version}/predict", {"method": "POST", "content": b"", "version": "9"}, 404),
        ("/predict", {"method": "POST", "content": bytes(MAX_BODY_BYTES + 1)}, 413),
        ("/predict", {"method": "POST", "content": b"text"}, 415),
        ("/predict", {"method": "POST", "content": png()[:-40]}, 422),
        ("/models/{model}/predict", {"method": "POST", "content": png(first=FAILING), "model": "faulty"}, 500),
        ("/models/{model}/predict", {"method": "POST", "content": png(), "model": "wrong"}, 503),
        ("/models", {"method": "GET"}, 200),
        ("/models/{model}", {"method": "GET"}, 200),
        ("/models/{model}", {"method": "GET", "model": "wrong"}, 200),
        ("/models/{model}", {"method": "GET", "model": "zebra"}, 404),
    ],
)
def test_real_answers_are_as_the_document_says(
    client: httpx.Client, openapi: Document, route: str, request_with: Document, status: int
) -> None:
    request = {"model": "plain", "version": "2"} | request_with
    path = route.format(model=request.pop("model"), version=request.pop("version"))
    answer = client.request(url=path, **request)
    assert answer.status_code == status, answer.text
    schema_of(openapi, answer, route).validate(answer.json())


@pytest.mark.parametrize("spoil", ["predictions", "timings_ms", "request_id"])
def test_the_document_would_notice_a_wrong_answer(client: httpx.Client, openapi: Document, spoil: str) -> None:
    answer = client.post("/predict", content=png())
    document = answer.json()
    schema = schema_of(openapi, answer, "/predict")
    assert schema.is_valid(document)
    assert not schema.is_valid(document | {spoil: 7})
    assert not schema.is_valid(document | {"extra": 7})
    assert not schema.is_valid({key: value for key, value in document.items() if key != spoil})


def test_nothing_of_litserves_own_routes_is_left(server: Served) -> None:
    assert [server.status(path) for path in ("/health", "/info", "/shutdown")] == [404, 404, 404]
