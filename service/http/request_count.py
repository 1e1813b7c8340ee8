"""What is counted and logged of a request that FastAPI answers."""

import time
from collections.abc import Callable, Collection
from contextlib import suppress

from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.http.connection_state import AWAITS_BODY
from service.parsing.head import Head, Target
from service.prediction.api_process import ApiProcess
from service.prediction.response import Response, begin_response


class CountRequests:
    """ASGI middleware that counts every request by its route, and notes it in the access log if there is one.

    Paths that are none of `routes` count together: clients may ask for any number of them.
    """

    def __init__(self, app: ASGIApp, api: Callable[[], ApiProcess], routes: Collection[str]) -> None:
        self._app, self._api, self._routes = app, api, frozenset(routes)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass everything on, HEAD as GET (uvicorn leaves the body out), and count the status that goes back."""
        inner = {**scope, "method": "GET"} if scope.get("method") == "HEAD" else scope
        began_ns = time.monotonic_ns()

        async def counting_send(message: Message) -> None:
            if message["type"] == "http.response.start":
                path = getattr(inner.get("route"), "path", scope["path"])
                route = path if path in self._routes else ""
                self._api().metrics.count_http(route, scope["method"], message["status"])
                if access_log := self._api().services.access_log:
                    access_log.note(_as_noted(scope, route, message, began_ns, inner.get("key", "")), route)
            await send(message)

        async def noting_receive() -> Message:
            scope[AWAITS_BODY] = True
            message = await receive()
            scope[AWAITS_BODY] = False
            return message

        with suppress(ClientDisconnect):  # before all of a body had come: no answer would reach the client
            await self._app(inner, noting_receive, counting_send if scope["type"] == "http" else send)


def _as_noted(scope: Scope, route: str, start: Message, began_ns: int, key: str) -> Response:
    """A response for the access log; its id is the one that it carries, if any."""
    head = Head(scope["method"], Target(route), b"", dict(scope["headers"]))
    response = begin_response(head, began_ns, scope["client"])
    response.status, response.key = start["status"], key
    response.request_id = dict(start["headers"]).get(b"x-request-id", b"").decode() or response.request_id
    response.timestamps.written_ns = time.monotonic_ns()
    return response
