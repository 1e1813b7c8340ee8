"""The documentation of inference by the Open Inference Protocol, which is answered before FastAPI sees it."""

from collections.abc import Iterable
from typing import Any

from fastapi import APIRouter
from pydantic import BaseModel

from service.parsing.head import INFER_METHODS, INFER_ROUTES, MAX_NUMBER
from service.parsing.inference import ENCODED, INPUT, OUTPUT, PIXELS
from service.routes import inference_schemas as schemas
from service.routes.openapi import DEADLINE, EXAMPLE, PROBLEMS, path_parameters

TAG = "open inference protocol"
_SIZE = {"type": "integer", "minimum": 0, "maximum": MAX_NUMBER}
_HEADERS: list[dict[str, Any]] = [
    {
        "name": "Inference-Header-Content-Length",
        "in": "header",
        "description": "bytes of the JSON, where binary data comes behind it",
        "schema": _SIZE,
    },
    DEADLINE,
    {
        "name": "X-Request-ID",
        "in": "header",
        "description": "its name in the log, if it is at most 128 visible characters of ASCII",
        "schema": {"type": "string"},
    },
]


def _schema_of(kind: type[BaseModel]) -> dict[str, Any]:
    """A model's schema with its parts' in their places: in an OpenAPI document `#/$defs` is not of this schema."""
    schema = kind.model_json_schema()
    parts = schema.pop("$defs", {})
    for field in schema["properties"].values():
        field.update(parts.get(field.pop("$ref", "").rpartition("/")[2], {}))
    return schema


INDEX_BODY, REPOSITORY_BODY = (
    {"requestBody": {"content": {"application/json": {"schema": _schema_of(kind)}}}}
    for kind in (schemas.RepositoryIndexRequest, schemas.RepositoryRequest)
)

_OTHERWISE: dict[int | str, str] = {400: "Malformed HTTP, JSON, tensor or parameter", 405: "Another method than POST"}


def problems_of(statuses: Iterable[int | str]) -> dict[int | str, dict[str, Any]]:
    """Responses with these statuses, in the protocol's own form."""
    return {
        status: {
            "model": schemas.InferenceError,
            "description": _OTHERWISE.get(status, PROBLEMS[status]["description"]),
        }
        for status in statuses
    }


def infer() -> None:
    """Classify the images in one tensor, `image`: UINT8 pixels, or BYTES with encoded images.

    In JSON encoded images are base64. With Inference-Header-Content-Length the tensor's data comes behind the JSON
    (binary tensor data extension); 0 means that the body is the pixels of one image and nothing else.
    """


def infer_routes(max_images: int) -> APIRouter:
    """The routes of inference, with the limits that hold."""
    router = APIRouter(tags=[TAG])
    for route in INFER_ROUTES:
        router.add_api_route(
            route,
            infer,
            methods=list(INFER_METHODS),
            response_model=schemas.InferenceAnswer,
            responses=problems_of(PROBLEMS) | {200: {"content": {"application/octet-stream": {"schema": _BINARY}}}},
            openapi_extra={"requestBody": _body(max_images), "parameters": path_parameters(route) + _HEADERS},
        )
    return router


_BINARY = {"type": "string", "format": "binary"}


def _object(**properties: object) -> dict[str, Any]:
    """A JSON object that has these properties, and may have others."""
    return {"type": "object", "required": list(properties), "properties": properties}


def _body(max_images: int) -> dict[str, Any]:
    """What a request may be; that data and shape fit each other, and the model, no schema can say."""
    flag = {"type": "boolean"}
    shape = {
        "type": "array",
        "items": _SIZE | {"minimum": 1},
        "minItems": 1,
        "maxItems": 4,
        "description": f"[n, height, width, channels] of pixels, [n] or [n, 1] of BYTES; n is at most {max_images}",
    }
    data = {"type": "array", "items": {}, "description": "pixels, nested or flat, or encoded images as base64"}
    datatype = {"type": "string", "enum": [PIXELS, ENCODED]}
    tensor = _object(name={"const": INPUT}, shape=shape, datatype=datatype, data=data)
    wishes = _object(classification=_SIZE, binary_data=flag) | {"required": []}
    output = _object(name={"const": OUTPUT}, parameters=wishes) | {"required": ["name"]}
    parameters = _object(binary_data_output=flag, timeout=_SIZE | {"description": "microseconds"}) | {"required": []}
    request = _object(
        inputs={"type": "array", "items": tensor, "minItems": 1, "maxItems": 1},
        id={"type": "string"},
        parameters=parameters,
        outputs={"type": "array", "items": output, "maxItems": 16},
    ) | {"required": ["inputs"]}
    example = {"inputs": [{"name": INPUT, "shape": [1], "datatype": ENCODED, "data": [EXAMPLE]}]}
    content = {
        "application/json": {"schema": request, "example": example},
        "application/octet-stream": {"schema": _BINARY},
    }
    return {"required": True, "content": content}
