"""The Open Inference Protocol beside inference: health, metadata, statistics, and the index of the repository."""

from collections.abc import Awaitable, Callable, Iterable
from importlib.metadata import version as version_of
from typing import Any, TypeVar

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ValidationError

from service.catalog.served_model import ServedModel
from service.errors import BadRequest, TooLarge
from service.http.ports import ADMIN, PROBES
from service.parsing.inference import INPUT, LOGITS, OUTPUT, PIXELS
from service.prediction.api_process import ApiProcess
from service.prediction.model_statistics import statistics
from service.routes import inference_schemas as schemas
from service.routes.inference_openapi import INDEX_BODY, REPOSITORY_BODY, TAG, problems_of
from service.routes.openapi import EVERYWHERE, GUARDED

_MODEL, _VERSION = "/v2/models/{model}", "/v2/models/{model}/versions/{version}"
_INDEX = "/v2/repository/index"
ROUTES = (
    "/v2",
    "/v2/health/live",
    "/v2/health/ready",
    "/v2/models/stats",
    _INDEX,
    *(route + suffix for suffix in ("", "/config", "/ready", "/stats") for route in (_MODEL, _VERSION)),
)
REPOSITORY_ROUTES = ("/v2/repository/models/{model}/load", "/v2/repository/models/{model}/unload")
"""There only with --admin-api."""
EXTENSIONS = ["binary_tensor_data", "classification", "model_configuration", "model_repository", "statistics"]
PLATFORM = "onnx_onnxv1"

Document = TypeVar("Document", bound=BaseModel)
Endpoint = Callable[..., Awaitable[JSONResponse]]
Answer = Callable[[str, str | None], JSONResponse]
"""To a question about a model, by its name, in a version, None for the one that is served where none is named."""

_NAMES: dict[type[BaseModel], str] = {
    schemas.RepositoryIndexRequest: "ready, true or false",
    schemas.RepositoryRequest: "parameters, of which only unload_dependents is taken: models come from the repository",
}
_STATES = {"ready": "READY", "loading": "LOADING", "failed": "UNAVAILABLE", "unloaded": "UNAVAILABLE"}
_UNLOADED = "it is not loaded; the next request for it has it loaded"
_MOST_BYTES = 64 << 10  # of a request to these routes


def add_inference_routes(app: FastAPI, api: Callable[[], ApiProcess]) -> None:
    """Give the application the routes of the protocol that are not predictions."""
    endpoints = _Endpoints(app.title, api)

    def add(path: str, endpoint: Endpoint, model: object, *problems: int, **more: Any) -> None:  # noqa: ANN401
        responses = problems_of((*GUARDED, *problems))
        app.add_api_route(path, endpoint, response_model=model, responses=responses, tags=[TAG], **more)

    def add_probe(path: str, endpoint: Endpoint, model: object, *problems: int, may_fail: bool = True) -> None:
        unready = {503: {"model": model, "description": "Not ready"}} if may_fail else {}
        responses = problems_of((*EVERYWHERE, *problems)) | unready
        app.add_api_route(path, endpoint, response_model=model, responses=responses, tags=[TAG, PROBES])

    add("/v2", endpoints.server_metadata, schemas.ServerMetadata)
    add_probe("/v2/health/live", endpoints.server_live, schemas.Liveness, may_fail=False)
    add_probe("/v2/health/ready", endpoints.server_ready, schemas.Readiness)
    add("/v2/models/stats", endpoints.all_statistics, schemas.Statistics)
    for route, choose in ((_MODEL, _newest), (_VERSION, _named)):
        add(route, choose(endpoints.model_metadata), schemas.ModelMetadata, 404)
        add(f"{route}/config", choose(endpoints.model_configuration), schemas.ModelConfiguration, 404)
        add_probe(f"{route}/ready", choose(endpoints.model_ready), schemas.ModelReadiness, 404)
        add(f"{route}/stats", choose(endpoints.model_statistics), schemas.Statistics, 404)
    index = list[schemas.RepositoryEntry]
    add(_INDEX, endpoints.repository_index, index, 413, methods=["POST"], openapi_extra=INDEX_BODY)


def _newest(answer: Answer) -> Endpoint:
    """Ask for the version that is served where none is named."""

    async def of_model(model: str) -> JSONResponse:
        return answer(model, None)

    return _documented(of_model, answer)


def _named(answer: Answer) -> Endpoint:
    """Ask for the version that the path names."""

    async def of_version(model: str, version: str) -> JSONResponse:
        return answer(model, version)

    return _documented(of_version, answer)


def _documented(endpoint: Endpoint, answer: Answer) -> Endpoint:
    endpoint.__name__, endpoint.__doc__ = answer.__name__, answer.__doc__
    return endpoint


def add_repository_routes(app: FastAPI, api: Callable[[], ApiProcess]) -> None:
    """Give the application the routes that change which models are served."""

    async def repository_load(model: str, request: Request) -> JSONResponse:
        """Serve the newest version that the repository has of the model."""
        await _read(request, schemas.RepositoryRequest)
        await api().changes.ask("load", model)
        return JSONResponse({})

    async def repository_unload(model: str, request: Request) -> JSONResponse:
        """Serve no version of the model."""
        await _read(request, schemas.RepositoryRequest)
        await api().changes.ask("unload", model)
        return JSONResponse({})

    responses = problems_of((*GUARDED, 404, 409, 413, 504))
    for route, endpoint in zip(REPOSITORY_ROUTES, (repository_load, repository_unload), strict=True):
        app.add_api_route(
            route, endpoint, methods=["POST"], tags=[TAG, ADMIN], responses=responses, openapi_extra=REPOSITORY_BODY
        )


class _Endpoints:
    """What the routes answer; FastAPI reads their parameters, and their documentation."""

    def __init__(self, name: str, api: Callable[[], ApiProcess]) -> None:
        self._name, self._api = name, api
        self._server_version = version_of("resnet-serve")  # read before there may be no descriptor left for its file

    async def server_metadata(self) -> JSONResponse:
        """The server's name, and which extensions of the protocol it has."""
        return JSONResponse({"name": self._name, "version": self._server_version, "extensions": EXTENSIONS})

    async def server_live(self) -> JSONResponse:
        """The event loop is alive."""
        return JSONResponse({"live": True})

    async def server_ready(self) -> JSONResponse:
        """The default model can take work now."""
        ready = self._api().ready
        return JSONResponse({"ready": ready}, 200 if ready else 503)

    def model_metadata(self, name: str, version: str | None) -> JSONResponse:
        """A model's tensors."""
        models = self._api().services.models
        tensors = _tensors(models[name, version])
        versions = [one.version for one in models.by_index.values() if one.name == name]
        return JSONResponse({"name": name, "versions": versions, "platform": PLATFORM} | tensors)

    def model_configuration(self, name: str, version: str | None) -> JSONResponse:
        """A model's tensors, and the most images of one request, as load generators read them."""
        services = self._api().services
        model = services.models[name, version]
        image = {"name": INPUT, "data_type": f"TYPE_{PIXELS}", "dims": list(model.input_shape)}
        logits = {"name": OUTPUT, "data_type": f"TYPE_{LOGITS}", "dims": [len(model.labels)]}
        most = services.settings.max_images_per_request
        document = {"name": name, "platform": PLATFORM, "max_batch_size": most, "input": [image], "output": [logits]}
        return JSONResponse(document)

    def model_ready(self, name: str, version: str | None) -> JSONResponse:
        """A model can take work now."""
        services, status = self._api().services, self._api().status
        ready = services.admission.open and status.can_be_asked(services.models[name, version].index)
        return JSONResponse({"name": name, "ready": ready}, 200 if ready else 503)

    def model_statistics(self, name: str, version: str | None) -> JSONResponse:
        """What was counted of one model."""
        return self._statistics([self._api().services.models[name, version]])

    async def all_statistics(self) -> JSONResponse:
        """What was counted of every model."""
        return self._statistics(self._api().services.models.by_index.values())

    def _statistics(self, models: Iterable[ServedModel]) -> JSONResponse:
        return JSONResponse({"model_stats": [statistics(self._api().metrics, model) for model in models]})

    async def repository_index(self, request: Request) -> JSONResponse:
        """Every model of the repository, and why one is not served; the body may be empty."""
        only_ready = (await _read(request, schemas.RepositoryIndexRequest)).ready
        index = [_entry(document) for document in self._api().status.describe_all()]
        return JSONResponse([entry for entry in index if entry["state"] == "READY" or not only_ready])


def _tensors(model: ServedModel) -> dict[str, Any]:
    return {
        "inputs": [{"name": INPUT, "datatype": PIXELS, "shape": [-1, *model.input_shape]}],
        "outputs": [{"name": OUTPUT, "datatype": LOGITS, "shape": [-1, len(model.labels)]}],
    }


def _entry(document: dict[str, Any]) -> dict[str, str]:
    names = {key: document[key] for key in ("name", "version")}
    reason = _UNLOADED if document["state"] == "unloaded" else document.get("reason", "")
    return names | {"state": _STATES[document["state"]], "reason": reason}


async def _read(request: Request, kind: type[Document]) -> Document:
    """What a request to the repository asks for, by default nothing; BadRequest, or TooLarge."""
    body = b""
    async for part in request.stream():
        body += part
        if len(body) > _MOST_BYTES:
            raise TooLarge(f"the body is over the limit of {_MOST_BYTES} bytes for this route")
    try:
        return kind.model_validate_json(body or b"{}", strict=True)
    except ValidationError as error:
        raise BadRequest(f"the body must be empty, or JSON with nothing in it but {_NAMES[kind]}") from error
