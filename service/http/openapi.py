"""The documentation of the predict routes, which are answered before FastAPI sees them."""

from itertools import product
from typing import Any

from fastapi import APIRouter, FastAPI
from fastapi.openapi.utils import get_openapi

from service.http import schemas
from service.prediction.head import METHODS, PREDICT_ROUTES

_IMAGE = {"type": "string", "format": "binary"}
_BASE64 = {"type": "string", "contentEncoding": "base64"}
_REQUEST = {
    "requestBody": {
        "required": True,
        "content": {
            "image/*": {"schema": _IMAGE},
            "multipart/form-data": {"schema": {"type": "object", "properties": {"image": _IMAGE}}},
            "application/json": {
                "schema": {
                    "oneOf": [
                        {"type": "object", "required": ["image"], "properties": {"image": _BASE64}},
                        {
                            "type": "object",
                            "required": ["images"],
                            "properties": {"images": {"type": "array", "items": _BASE64}},
                        },
                    ]
                }
            },
        },
    },
    "parameters": [
        {"name": "top_k", "in": "query", "schema": {"type": "integer", "minimum": 1, "default": 5}},
        {"name": "X-Request-Timeout-Ms", "in": "header", "schema": {"type": "integer", "minimum": 1}},
        {"name": "X-Request-ID", "in": "header", "schema": {"type": "string", "maxLength": 128}},
    ],
}
_PROBLEM = {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}
PROBLEMS: dict[int | str, dict[str, Any]] = {
    status: {"description": description, "content": _PROBLEM}
    for status, description in {
        400: "Malformed JSON, base64, form or parameter",
        404: "Unknown model or version",
        405: "Another method than POST or PUT",
        408: "The body did not arrive in time",
        413: "Body, number of images, or width x height over the limit",
        415: "Not an image type that is taken",
        422: "An image that does not decode",
        500: "The server's own fault",
        503: "Full, draining, loading, or the worker was lost: see Retry-After",
        504: "The deadline passed",
    }.items()
}


def predict() -> None:
    """Classify the image or images in the body; a raw body may be of any Content-Type."""


def _predict_routes() -> APIRouter:
    router = APIRouter(tags=["prediction"])
    for route, method in product(PREDICT_ROUTES, METHODS):
        router.add_api_route(
            route,
            predict,
            methods=[method],
            response_model=schemas.PredictAnswer | schemas.PredictSeveralAnswer,
            responses=PROBLEMS,
            openapi_extra=_with_path_parameters(route),
        )
    return router


def _with_path_parameters(route: str) -> dict[str, Any]:
    named = [name for name in ("model", "version") if f"{{{name}}}" in route]
    path = [{"name": name, "in": "path", "required": True, "schema": {"type": "string"}} for name in named]
    return _REQUEST | {"parameters": [*path, *_REQUEST["parameters"]]}


def describe(app: FastAPI) -> dict[str, Any]:
    """The OpenAPI document of every route."""
    if app.openapi_schema is None:
        routes = [*_predict_routes().routes, *app.routes]
        app.openapi_schema = get_openapi(title=app.title, version=app.version, routes=routes)
        schemas_ = app.openapi_schema["components"]["schemas"]
        schemas_["Problem"] = schemas.Problem.model_json_schema()
    return app.openapi_schema
