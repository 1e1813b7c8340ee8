"""The OpenAPI document tells the truth about every route: real answers are held against it."""

from typing import Any

import httpx
import pytest
from jsonschema import Draft202012Validator

from service.parsing.head import MAX_NUMBER
from tests.service.pictures import b64, png
from tests.service.stock import FAILING, MAX_BODY_BYTES, MAX_IMAGES

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


def test_openapi_knows_every_route_and_every_schema_is_one(openapi: Document) -> None:
    predict = {
        "/predict",
        "/models/{model}/predict",
        "/models/{model}/versions/{version}/predict",
        "/predictions/{model}",
    }
    others = {path for path in openapi["paths"] if not path.startswith("/v2")} - predict
    assert others == {"/models", "/models/{model}", "/livez", "/readyz", "/metrics"}
    assert all(openapi["paths"][path].keys() == {"post", "put"} for path in predict)
    for schema in openapi["components"]["schemas"].values():
        Draft202012Validator.check_schema(schema)


def test_every_operation_has_its_own_id_and_tags_that_are_shown(openapi: Document) -> None:
    operations = [operation for path in openapi["paths"].values() for operation in path.values()]
    assert len({operation["operationId"] for operation in operations}) == len(operations)
    tags = {tag for operation in operations for tag in operation.get("tags", ["default"])}
    assert tags == {"prediction", "models", "probes", "open inference protocol"}


def test_every_path_parameter_is_described(openapi: Document) -> None:
    for path, operations in openapi["paths"].items():
        for operation in operations.values():
            described = {one["name"] for one in operation.get("parameters", []) if one["in"] == "path"}
            assert described == {part.strip("{}") for part in path.split("/") if part.startswith("{")}


B64 = b64(png())
INFERENCE = {"inputs": [{"name": "image", "datatype": "BYTES", "shape": [1], "data": [B64]}]}
CLASSES = [{"name": "logits", "parameters": {"classification": 3}}]


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
        ("/v2", {"method": "GET"}, 200),
        ("/v2/health/live", {"method": "GET"}, 200),
        ("/v2/health/ready", {"method": "GET"}, 200),
        ("/v2/models/{model}", {"method": "GET"}, 200),
        ("/v2/models/{model}/versions/{version}", {"method": "GET", "version": "9"}, 404),
        ("/v2/models/{model}/config", {"method": "GET"}, 200),
        ("/v2/models/{model}/ready", {"method": "GET"}, 200),
        ("/v2/models/{model}/ready", {"method": "GET", "model": "wrong"}, 503),
        ("/v2/models/{model}/ready", {"method": "GET", "model": "zebra"}, 404),
        ("/v2/models/stats", {"method": "GET"}, 200),
        ("/v2/models/{model}/versions/{version}/stats", {"method": "GET"}, 200),
        ("/v2/repository/index", {"method": "POST"}, 200),
        ("/v2/repository/index", {"method": "POST", "content": b"x"}, 400),
        ("/v2/repository/index", {"method": "POST", "content": bytes(1 << 17)}, 413),
        ("/v2/models/{model}/infer", {"method": "POST", "json": INFERENCE}, 200),
        ("/v2/models/{model}/infer", {"method": "POST", "json": INFERENCE | {"id": "7", "outputs": CLASSES}}, 200),
        ("/v2/models/{model}/versions/{version}/infer", {"method": "POST", "json": INFERENCE}, 200),
        ("/v2/models/{model}/infer", {"method": "POST", "json": {}}, 400),
        ("/v2/models/{model}/infer", {"method": "POST", "json": INFERENCE, "model": "zebra"}, 404),
        ("/v2/models/{model}/infer", {"method": "POST", "json": INFERENCE, "model": "wrong"}, 503),
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


def test_the_limits_that_the_document_tells_are_those_that_hold(client: httpx.Client, openapi: Document) -> None:
    operation = openapi["paths"]["/predict"]["post"]
    numbers = {one["name"]: one["schema"] for one in operation["parameters"] if one["schema"]["type"] == "integer"}
    assert {name: schema["maximum"] for name, schema in numbers.items()} == dict.fromkeys(
        ("top_k", "X-Request-Timeout-Ms"), MAX_NUMBER
    )
    for number, status in ((MAX_NUMBER, 200), (MAX_NUMBER + 1, 400)):
        assert client.post("/predict", content=png(), params={"top_k": number}).status_code == status
        assert (
            client.post("/predict", content=png(), headers={"x-request-timeout-ms": str(number)}).status_code == status
        )
    document = Draft202012Validator(operation["requestBody"]["content"]["application/json"]["schema"])
    for body, status in (
        ({"image": B64}, 200),
        ({"images": [B64] * MAX_IMAGES}, 200),
        ({"images": [B64] * (MAX_IMAGES + 1)}, 413),
        ({"images": []}, 400),
        ({"image": ""}, 400),
        ({"image": B64 + "AA=A"}, 400),
        ({"image": B64, "note": 1}, 400),
        ({"image": B64, "images": [B64]}, 400),
        ({}, 400),
        ([B64], 400),
    ):
        answer = client.post("/predict", json=body)
        assert (answer.status_code, document.is_valid(body)) == (status, status == 200)
    assert operation["requestBody"]["content"]["multipart/form-data"]["schema"]["required"] == ["image"]


def test_every_status_that_can_come_is_told(client: httpx.Client, openapi: Document) -> None:
    everywhere = {"400", "408", "431", "500", "501"}
    for operations in openapi["paths"].values():
        for operation in operations.values():
            assert operation["responses"].keys() > everywhere
    for route in ("/models", "/v2"):
        answer = client.get(route, headers={"x-long": "x" * (1 << 17)})
        assert answer.status_code == 431
        schema_of(openapi, answer, route).validate(answer.json())
