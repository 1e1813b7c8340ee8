"""The documentation of inference by the Open Inference Protocol, which is answered before FastAPI sees it."""

from typing import Any

from fastapi import APIRouter

from service.http import inference_schemas as schemas
from service.parsing.head import INFER_METHODS, INFER_ROUTES, MAX_NUMBER
from service.parsing.inference import ENCODED, INPUT, OUTPUT, PIXELS

TAG = "open inference protocol"
_SIZE = {"type": "integer", "minimum": 0, "maximum": MAX_NUMBER}
_ANY_NUMBER = {"type": "array", "items": {}}
INDEX_BODY = {
    "requestBody": {"content": {"application/json": {"schema": schemas.RepositoryIndexRequest.model_json_schema()}}}
}

_PROBLEMS = {
    400: "Malformed HTTP, JSON, tensor or parameter",
    401: "No API key, or one that is not valid, where the server has keys: see WWW-Authenticate",
    403: "The API key is good, but not for this",
    404: "Unknown model or version",
    405: "Another method",
    408: "The headers or the body did not arrive in time, or too slowly",
    413: "Body, number of images, or width x height over the limit",
    415: "Not an image type that is taken, or a content coding that is not known: see Accept-Encoding",
    422: "An image that does not decode",
    431: "Header fields over the limit",
    500: "The server's own fault",
    501: "A transfer coding that the server does not know",
    503: "Full, draining, loading, or the worker was lost: see Retry-After",
    504: "The deadline passed",
}
_EVERYWHERE = (400, 408, 431, 500, 501)
GUARDED = (401, 403)
"""Statuses of routes that are for holders of keys."""


def problems_of(*statuses: int) -> dict[int | str, Any]:
    """Responses with these statuses, and with those that any route can give.

    What cannot be read as HTTP is refused before its route is known, with a problem document.
    """
    problem = {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}
    return {
        status: {"model": schemas.InferenceError, "description": _PROBLEMS[status], "content": problem}
        for status in (*_EVERYWHERE, *statuses)
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
            responses=problems_of(*_PROBLEMS) | {200: {"content": {"application/octet-stream": {"schema": _BINARY}}}},
            openapi_extra={"requestBody": _body(max_images), "parameters": _parameters(route)},
        )
    return router


_BINARY = {"type": "string", "format": "binary"}


def _object(required: list[str], **properties: object) -> dict[str, Any]:
    return {"type": "object", "required": required, "properties": properties}


def _body(max_images: int) -> dict[str, Any]:
    shape = {"type": "array", "items": _SIZE, "minItems": 1, "maxItems": 4}
    parameters = _object([], binary_data_size=_SIZE)
    datatype = {"type": "string", "enum": [PIXELS, ENCODED]}
    name = {"type": "string", "const": INPUT}
    tensor = _object(
        ["name", "shape", "datatype"],
        name=name,
        shape=shape,
        datatype=datatype,
        parameters=parameters,
        data=_ANY_NUMBER,
    )
    flag = {"type": "boolean"}
    output = _object(
        ["name"],
        name={"type": "string", "const": OUTPUT},
        parameters=_object([], classification=_SIZE, binary_data=flag),
    )
    request = _object(
        ["inputs"],
        id={"type": "string"},
        parameters=_object([], binary_data_output=flag, timeout=_SIZE | {"description": "microseconds"}),
        inputs={"type": "array", "items": tensor, "minItems": 1, "maxItems": 1},
        outputs={"type": "array", "items": output, "maxItems": 16},
    )
    shape["description"] = (
        f"[n, height, width, channels] of pixels, [n] or [n, 1] of BYTES; at most {max_images} images"
    )
    content = {"application/json": request, "application/octet-stream": _BINARY}
    return {"required": True, "content": {media_type: {"schema": schema} for media_type, schema in content.items()}}


def _parameters(route: str) -> list[dict[str, Any]]:
    named = [name for name in ("model", "version") if f"{{{name}}}" in route]
    path = [{"name": name, "in": "path", "required": True, "schema": {"type": "string"}} for name in named]
    headers = {
        "Inference-Header-Content-Length": (_SIZE, "bytes of the JSON, where binary data comes behind it"),
        "X-Request-Timeout-Ms": (
            _SIZE | {"minimum": 1},
            "the deadline; the latest that the server takes where that is earlier",
        ),
        "X-Request-ID": ({"type": "string", "maxLength": 128}, "its name in the log"),
    }
    return path + [
        {"name": name, "in": "header", "schema": schema, "description": text}
        for name, (schema, text) in headers.items()
    ]
