"""The routes beside prediction: plain FastAPI."""

from collections.abc import Callable, Sequence
from functools import partial

from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_1_0_0
from prometheus_client.openmetrics.exposition import CONTENT_TYPE_LATEST
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware

from service.auth import cors
from service.errors import MethodNotAllowed, ServiceError
from service.http.ports import PROBES
from service.parsing.head import INFER_ROUTES, PREDICT_ROUTES
from service.prediction.api_process import ApiProcess
from service.routes import inference_routes, openapi, schemas
from service.routes.admin_routes import ADMIN_ROUTES
from service.routes.documents import DOCUMENT, PAGE, add_documents
from service.routes.early_answer import EarlyAnswers
from service.routes.faults import AnswerFaults
from service.routes.inference_openapi import infer_routes
from service.routes.options import AnswerOptions, allowed_methods
from service.routes.request_count import CountRequests
from service.routes.route_access import DOCUMENTS, CheckAccess, no_route, problem_answer

_OPENMETRICS = "application/openmetrics-text"

PLAIN_ROUTES = (
    "/models",
    "/models/{model}",
    "/livez",
    "/readyz",
    "/metrics",
    PAGE,
    DOCUMENT,
    *inference_routes.ROUTES,
)
ROUTES = (*PREDICT_ROUTES, *INFER_ROUTES, *PLAIN_ROUTES, *ADMIN_ROUTES)


def add_routes(app: FastAPI, api: Callable[[], ApiProcess], *, docs: bool = True, origins: Sequence[str] = ()) -> None:
    """Give the application its routes; `api` is asked for at each request, when the process has one."""
    app.router.routes.clear()  # FastAPI's own, whose page loads from elsewhere
    app.router.redirect_slashes = False  # to an address that is a guess behind a proxy
    app.docs_url = PAGE if docs else None
    if docs:
        add_documents(app, DOCUMENTS)
    _add_models(app, api)
    _add_probes(app, api)
    inference_routes.add_inference_routes(app, api)
    app.add_exception_handler(HTTPException, _problem)
    app.add_exception_handler(ServiceError, _problem)
    _add_middleware(app, api, origins)
    app.openapi = partial(  # type: ignore[method-assign]
        openapi.describe,
        app,
        lambda: api().services.settings.max_images_per_request,
        infer_routes,
        lambda: bool((guard := api().services.guard) and guard.has_keys),
    )


def _add_models(app: FastAPI, api: Callable[[], ApiProcess]) -> None:
    async def models() -> JSONResponse:
        """Every model: labels, input, metrics, engine, device, state."""
        return JSONResponse({"models": api().status.describe_all()})

    async def model(model: str) -> JSONResponse:
        """One model."""
        return JSONResponse(api().status.describe_named(model))

    missing = openapi.GUARDED | {404: openapi.PROBLEMS[404]}
    for path, endpoint, document, responses in (
        ("/models", models, schemas.ModelsDocument, openapi.GUARDED),
        ("/models/{model}", model, schemas.ModelDocument, missing),
    ):
        app.add_api_route(path, endpoint, tags=["models"], response_model=document, responses=responses)


def _add_probes(app: FastAPI, api: Callable[[], ApiProcess]) -> None:
    async def livez() -> Response:
        """The event loop is alive."""
        return Response("ok\n", media_type="text/plain")

    async def readyz() -> Response:
        """The default model can take work now."""
        ready = api().ready
        return Response("ready\n" if ready else "not ready\n", 200 if ready else 503, media_type="text/plain")

    async def metrics(request: Request) -> Response:
        """Prometheus text, or OpenMetrics, which has exemplars, for those who accept it."""
        openmetrics = _OPENMETRICS in [accepted.partition(";")[0].strip() for accepted in _accepts(request)]
        text = await api().metrics_endpoint.text(openmetrics=openmetrics)
        return Response(text, media_type=CONTENT_TYPE_LATEST if openmetrics else CONTENT_TYPE_PLAIN_1_0_0)

    everywhere = openapi.EVERYWHERE
    unready = everywhere | {503: {"description": "Not ready", "content": {"text/plain": {}}}}
    for path, endpoint, others, types in (
        ("/livez", livez, everywhere, ["text/plain"]),
        ("/readyz", readyz, unready, ["text/plain"]),
        ("/metrics", metrics, everywhere, ["text/plain", _OPENMETRICS]),
    ):
        responses = others | {200: {"content": {kind: {} for kind in types}}}
        app.add_api_route(path, endpoint, tags=[PROBES], response_class=Response, responses=responses)


def _add_middleware(app: FastAPI, api: Callable[[], ApiProcess], origins: Sequence[str]) -> None:
    """What is added first stands next to the routes."""
    app.add_middleware(AnswerOptions, site=app)
    app.add_middleware(CheckAccess, site=app, api=api)
    app.add_middleware(AnswerFaults)
    if origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=origins,
            allow_methods=cors.METHODS,
            allow_headers=cors.ASKED,
            expose_headers=cors.TOLD,
        )
    app.add_middleware(CountRequests, api=api, routes=(*PLAIN_ROUTES, *ADMIN_ROUTES))
    app.add_middleware(EarlyAnswers)


def _accepts(request: Request) -> list[str]:
    """The media types of the Accept field, with their parameters."""
    return request.headers.get("accept", "").split(",")


async def _problem(request: Request, error: Exception) -> Response:
    """The problem document of any error, Starlette's own 404 and 405 too."""
    if isinstance(error, HTTPException):
        if error.status_code == MethodNotAllowed.status:
            error = MethodNotAllowed(request.method, allowed_methods(request.app, request.scope))
        else:
            error = no_route(request.scope, f"; GET {PAGE} shows those that there are" if request.app.docs_url else "")
    return problem_answer(request.scope, error)
