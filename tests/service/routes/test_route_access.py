"""Which key each route needs, and that what changes the server is closed where there are no keys."""

from types import SimpleNamespace
from typing import Any, cast

import pytest
from fastapi import FastAPI, Request
from fastapi.routing import APIRoute
from fastapi.testclient import TestClient

from service.auth.guard import Guard
from service.http.ports import ADMIN, PROBES
from service.prediction.api_process import ApiProcess
from service.routes.route_access import DOCUMENTS, CheckAccess
from service.routes.routes import PLAIN_ROUTES, add_routes
from tests.service.auth.test_guard import KEYS, bearing


@pytest.fixture
def reads() -> list[bytes]:
    """Bodies that a route has got."""
    return []


def site(guard: Guard | None, reads: list[bytes]) -> TestClient:
    """Routes with each tag, before which a guard stands."""
    app = FastAPI(openapi_url=None)

    async def route(request: Request) -> dict[str, Any]:
        reads.append(await request.body())
        return {"key": request.scope.get("key")}

    for path, tags in (("/probe", [PROBES]), ("/document", [DOCUMENTS]), ("/admin", [ADMIN]), ("/other", ["models"])):
        app.add_api_route(path, route, methods=["POST"], tags=cast("list[Any]", tags))
    api = cast(ApiProcess, SimpleNamespace(services=SimpleNamespace(guard=guard)))
    app.state.ports = SimpleNamespace(answers=lambda *_: True)
    app.add_middleware(CheckAccess, site=app, api=lambda: api)
    return TestClient(app)


@pytest.mark.parametrize(
    ("key", "admin", "other"), [(None, 401, 401), ("one", 403, 200), ("two", 200, 403), ("three", 200, 200)]
)
def test_a_tag_says_which_scope_is_needed(key: str | None, admin: int, other: int, reads: list[bytes]) -> None:
    client = site(Guard(KEYS, "--api-key-file keys", 1), reads)
    headers = {name.decode(): value.decode() for name, value in bearing(key).items()} if key else {}
    statuses = [
        client.post(path, content=b"body", headers=headers).status_code
        for path in ("/admin", "/other", "/probe", "/document")
    ]
    assert statuses == [admin, other, 200, 200]
    assert len(reads) == statuses.count(200)


def test_without_keys_nothing_can_be_changed(reads: list[bytes]) -> None:
    client = site(None, reads)
    refusal = client.post("/admin", content=b"body")
    assert (refusal.status_code, refusal.json()["code"], reads) == (403, "forbidden", [])
    assert client.post("/other").status_code == 200


def test_a_route_may_ask_for_the_name_of_the_key(reads: list[bytes]) -> None:
    headers = {"X-API-Key": "three"}
    assert site(Guard(KEYS, "--api-key-file keys", 1), reads).post("/admin", headers=headers).json() == {"key": "both"}


def test_every_route_of_the_server_is_known_by_its_tags() -> None:
    """A router that is included whole has no tags of its own, and would be taken for routes with scope predict."""
    app = FastAPI()
    add_routes(app, lambda: pytest.fail("nothing is asked"))
    assert all(isinstance(route, APIRoute) for route in app.routes)
    assert {route.path for route in app.routes if isinstance(route, APIRoute)} >= set(PLAIN_ROUTES)
