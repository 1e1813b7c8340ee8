"""The documentation of the predict routes, which are answered before FastAPI sees them."""

from collections.abc import Callable, Iterator
from itertools import product
from typing import Any

from fastapi import APIRouter, FastAPI
from fastapi.openapi.utils import get_openapi

from service.errors import ChangeRefused
from service.http.ports import PROBES
from service.parsing.head import DEFAULT_TOP_K, MAX_NUMBER, METHODS, PREDICT_ROUTES
from service.routes import schemas

EXAMPLE = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAAAAAA6fptVAAAACklEQVR42mP4DwABAQEAHLCMmQAAAABJRU5ErkJggg=="
"""One white pixel, a PNG in base64."""
_FILE = {"type": "string", "format": "binary"}
_IMAGE = _FILE | {"minLength": 1}
_DIGIT, _PADDING = r"[A-Za-z0-9+/_-][ \t\r\n]*", r"=[ \t\r\n]*"  # either alphabet, and lines
_LAST = f"({_DIGIT}){{2}}({_PADDING}){{0,2}}|({_DIGIT}){{3}}({_PADDING})?|({_DIGIT}){{4}}"
_BASE64 = {
    "type": "string",
    "contentEncoding": "base64",
    "minLength": 2,
    "pattern": f"^(data:[^,]{{0,1000}};base64,)?[ \t\r\n]*(({_DIGIT}){{4}})*({_LAST})$",
}
_ANY_BASE64 = {
    "type": "string",
    "contentEncoding": "base64",
    "pattern": '^[^"]*$',
    "description": "one that is not base64 fails alone",
}
DEADLINE = {
    "name": "X-Request-Timeout-Ms",
    "in": "header",
    "description": "the deadline; the latest that the server takes where that is earlier",
    "schema": {"type": "integer", "minimum": 1, "maximum": MAX_NUMBER},
}
_PARAMETERS: list[dict[str, Any]] = [
    {
        "name": "top_k",
        "in": "query",
        "description": "how many classes; all of them where there are fewer",
        "schema": {"type": "integer", "minimum": 1, "maximum": MAX_NUMBER, "default": DEFAULT_TOP_K},
    },
    DEADLINE,
    {
        "name": "X-Request-ID",
        "in": "header",
        "description": "the request's name in the answer and the log, if it is at most 128 visible characters of ASCII",
        "schema": {"type": "string"},
    },
]


def _document(**properties: object) -> dict[str, Any]:
    """A JSON object with these properties and no other."""
    return {
        "type": "object",
        "required": list(properties),
        "properties": properties,
        "additionalProperties": False,
    }


def _body(max_images: int) -> dict[str, Any]:
    """What a predict route takes."""
    several = {"type": "array", "minItems": 1, "maxItems": max_images}
    files = several | {"items": _FILE, "anyOf": [{"minItems": 2}, {"items": _IMAGE}]}  # of several one may be empty
    form = {"type": "object", "required": ["image"], "properties": {"image": files}}
    one_of = [_document(image=_BASE64), _document(images=several | {"items": _ANY_BASE64})]
    content = {
        "application/octet-stream": {"schema": _IMAGE},  # first: what generated clients take where they take one alone
        "multipart/form-data": {"schema": form},
        "application/json": {"schema": {"oneOf": one_of}, "example": {"image": EXAMPLE}},
    }
    return {"required": True, "content": content}


_PROBLEM = {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}
PROBLEMS: dict[int | str, dict[str, Any]] = {
    status: {"description": description, "content": _PROBLEM}
    for status, description in {
        400: "Malformed HTTP, JSON, base64, form or parameter",
        401: "No API key, or one that is not valid, where the server has keys: see WWW-Authenticate",
        403: "The API key is good, but not for this",
        404: "Unknown model or version",
        405: "Another method than POST or PUT",
        408: "The headers or the body did not arrive in time, or too slowly",
        409: "The change is refused, with the reason; what was served goes on",
        413: "Body, number of images, or width x height over the limit",
        415: "Not an image type that is taken, or a content coding that is not known: see Accept-Encoding",
        422: "An image that does not decode",
        429: "More requests than the server takes of one key or address: see Retry-After",
        431: "Header fields over the limit",
        500: "The server's own fault",
        501: "A transfer coding that the server does not know",
        503: "Full, draining, loading, or the worker was lost: see Retry-After",
        504: "The deadline passed",
    }.items()
}
EVERYWHERE: dict[int | str, dict[str, Any]] = {status: PROBLEMS[status] for status in (400, 408, 431, 500, 501)}
"""Problems of every route: what comes is read, or is not, before the route is known."""
GUARDED = EVERYWHERE | {status: PROBLEMS[status] for status in (401, 403, 429)}
"""Problems of routes that are for holders of keys."""


def predict() -> None:
    """Classify the image or images in the body; a raw body may be of any Content-Type."""


def _predict_routes(max_images: int) -> APIRouter:
    router = APIRouter(tags=["prediction"])
    for route, method in product(PREDICT_ROUTES, METHODS):
        router.add_api_route(
            route,
            predict,
            methods=[method],
            response_model=schemas.PredictAnswer | schemas.PredictSeveralAnswer,
            responses={status: answer for status, answer in PROBLEMS.items() if status != ChangeRefused.status},
            openapi_extra={"requestBody": _body(max_images), "parameters": path_parameters(route) + _PARAMETERS},
        )
    return router


def path_parameters(route: str) -> list[dict[str, Any]]:
    """Those that stand in the path of a route, which name a model or a version of it."""
    named = [name for name in ("model", "version") if f"{{{name}}}" in route]
    return [{"name": name, "in": "path", "required": True, "schema": {"type": "string"}} for name in named]


def describe(
    app: FastAPI,
    get_max_images: Callable[[], int],
    make_others: Callable[[int], APIRouter],
    needs_keys: Callable[[], bool],
) -> dict[str, Any]:
    """The OpenAPI document of every route, with the limits that hold, and how keys are sent if any are needed.

    `make_others`: for so many images, more routes that FastAPI does not see.
    """
    if app.openapi_schema is None:
        max_images = get_max_images()
        routes = [*_predict_routes(max_images).routes, *make_others(max_images).routes, *app.routes]
        app.openapi_schema = get_openapi(title=app.title, version=app.version, routes=routes)
        schemas_ = app.openapi_schema["components"]["schemas"]
        schemas_["Problem"] = schemas.Problem.model_json_schema()
        _drop_validation(app.openapi_schema)
        if needs_keys():
            _add_keys(app.openapi_schema)
    return app.openapi_schema


def _operations(document: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for operations in document["paths"].values():
        yield from operations.values()


def _add_keys(document: dict[str, Any]) -> None:
    """Tell in which fields a key is sent, and for which operations."""
    document["components"]["securitySchemes"] = {
        "bearer": {"type": "http", "scheme": "bearer"},
        "header": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
    }
    for operation in _operations(document):
        if PROBES not in operation.get("tags", ()):
            operation["security"] = [{"bearer": []}, {"header": []}]


def _drop_validation(document: dict[str, Any]) -> None:
    """Leave out what FastAPI tells of parameters that do not validate: ours are strings."""
    for operation in _operations(document):
        if "HTTPValidationError" in str(operation["responses"].get("422")):
            del operation["responses"]["422"]
    for name in ("HTTPValidationError", "ValidationError"):
        document["components"]["schemas"].pop(name, None)
