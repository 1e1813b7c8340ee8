"""The routes that change which models are served: plain FastAPI, there only with --admin-api."""

from collections.abc import Callable

from fastapi import FastAPI

from service.errors import NotFound
from service.http.ports import ADMIN
from service.prediction.api_process import ApiProcess
from service.routes import openapi, schemas
from service.routes.inference_routes import REPOSITORY_ROUTES, add_repository_routes

_ROUTES = (
    "/models/{model}/load",
    "/models/{model}/unload",
    "/models/{model}/versions/{version}/load",
    "/models/{model}/versions/{version}/promote",
    "/models/{model}/versions/{version}",
    "/repository/reload",
)
ADMIN_ROUTES = (*_ROUTES, *REPOSITORY_ROUTES)


def add_admin_routes(app: FastAPI, api: Callable[[], ApiProcess]) -> None:
    """Give the application these routes."""

    def describe(*, changed: bool) -> schemas.ChangeDocument:
        served = [schemas.ServedVersion(name=name, version=number) for name, number in api().status.served()]
        return schemas.ChangeDocument(changed=changed, models=served)

    async def load(model: str) -> schemas.ChangeDocument:
        """Serve the newest version that the repository has of the model."""
        return describe(changed=await api().changes.ask("load", model))

    async def load_version(model: str, version: str) -> schemas.ChangeDocument:
        """Serve this version of the model, in place of the one that is served."""
        return describe(changed=await api().changes.ask("load", model, _parse(version)))

    async def promote(model: str, version: str) -> schemas.ChangeDocument:
        """Serve this version, which was a shadow, in place of the one that is served."""
        return describe(changed=await api().changes.ask("promote", model, _parse(version)))

    async def unload(model: str) -> schemas.ChangeDocument:
        """Serve no version of the model."""
        return describe(changed=await api().changes.ask("unload", model))

    async def delete(model: str, version: str) -> schemas.ChangeDocument:
        """Do not serve this version until it is loaded again; the newest other one takes its place."""
        return describe(changed=await api().changes.ask("delete", model, _parse(version)))

    async def reload() -> schemas.ChangeDocument:
        """Read the repository again, and serve what it holds."""
        return describe(changed=await api().changes.ask("reread"))

    responses = openapi.GUARDED | {status: openapi.PROBLEMS[status] for status in (404, 409, 504)}
    endpoints: tuple[Callable[..., object], ...] = (load, unload, load_version, promote, delete, reload)
    for path, endpoint in zip(_ROUTES, endpoints, strict=True):
        method = "DELETE" if endpoint is delete else "POST"
        app.add_api_route(path, endpoint, methods=[method], tags=[ADMIN], responses=responses)
    add_repository_routes(app, api)


def _parse(version: str) -> int:
    if not (version.isascii() and version.isdigit() and len(version) < 10 and int(version)):
        raise NotFound(f"{version[:40]!r} is no version: it must be a positive whole number")
    return int(version)
