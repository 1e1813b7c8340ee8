"""What is counted and logged of a request that FastAPI answers."""

import time
from collections.abc import Callable, Collection

from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.http.connection_state import AWAITS_BODY
from service.parsing.head import Head, Target
from service.prediction.api_process import ApiProcess
from service.prediction.response import Response, begin_response
from service.routes.route_access import problem_answer


class CountRequests:
    """ASGI middleware that counts every request by its route, and notes it in the access log if there is one.

    Paths that are none of `routes` count together: clients may ask for any number of them. It answers faults of our
    own, so that these count, too.
    """

    def __init__(self, app: ASGIApp, api: Callable[[], ApiProcess], routes: Collection[str]) -> None:
        self._app, self._api, self._routes = app, api, frozenset(routes)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass everything on, HEAD as GET (uvicorn leaves the body out), and count the status that goes back."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        inner = {**scope, "method": "GET"} if scope["method"] == "HEAD" else scope
        began_ns, begun = time.monotonic_ns(), False

        async def counting_send(message: Message) -> None:
            nonlocal begun
            if message["type"] == "http.response.start":
                begun = True
                path = getattr(inner.get("route"), "path", scope["path"])
                route = path if path in self._routes else ""
                self._api().metrics.count_http(route, scope["method"], message["status"])
                if access_log := self._api().services.access_log:
                    access_log.note(_as_noted({**inner, "method": scope["method"]}, route, message, began_ns), route)
            await send(message)

        async def noting_receive() -> Message:
            scope[AWAITS_BODY] = True
            message = await receive()
            scope[AWAITS_BODY] = False
            return message

        try:
            await self._app(inner, noting_receive, counting_send)
        except ClientDisconnect:  # before all of a body had come: no answer would reach the client
            pass
        except Exception as error:
            if begun:
                raise
            await self._fault(inner, error)(inner, noting_receive, counting_send)

    def _fault(self, scope: Scope, error: Exception) -> ASGIApp:
        """The answer to a fault of our own, which no other middleware sees."""
        answer = problem_answer(scope, error)
        if allowed := self._api().services.cors:
            answer.headers.update(allowed.headers(dict(scope["headers"])))
        return answer


def _as_noted(scope: Scope, route: str, start: Message, began_ns: int) -> Response:
    """A response for the access log; its id is the one that it carries, if any."""
    head = Head(scope["method"], Target(route), b"", dict(scope["headers"]))
    response = begin_response(head, began_ns, scope["client"])
    response.status, response.key, response.problem = start["status"], scope.get("key", ""), scope.get("problem")
    response.request_id = dict(start["headers"]).get(b"x-request-id", b"").decode() or response.request_id
    response.timestamps.written_ns = time.monotonic_ns()
    return response
