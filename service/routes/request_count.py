"""What is counted and logged of a request that FastAPI answers."""

import time
from collections.abc import Callable, Collection

from starlette.datastructures import MutableHeaders
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.http.connection_state import ANSWERED, AWAITS_BODY
from service.parsing.head import Head, Target
from service.prediction.api_process import ApiProcess
from service.prediction.response import Response, begin_response


class CountRequests:
    """ASGI middleware that names every request, counts it by its route, and notes it in the access log if there is one.

    Paths that are none of `routes` count together: clients may ask for any number of them.
    """

    def __init__(self, app: ASGIApp, api: Callable[[], ApiProcess], routes: Collection[str]) -> None:
        self._app, self._api, self._routes = app, api, frozenset(routes)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass everything on, HEAD as GET (uvicorn leaves the body out), and count the status that goes back."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        inner = {**scope, "method": "GET"} if scope["method"] == "HEAD" else scope
        head = Head(scope["method"], Target(""), b"", dict(scope["headers"]))
        answer = begin_response(head, time.monotonic_ns(), scope["client"])

        async def counting_send(message: Message) -> None:
            if message["type"] == "http.response.start":
                self._note(answer, inner, message)
            await send(message)

        async def noting_receive() -> Message:
            scope[AWAITS_BODY] = True
            message = await receive()
            scope[AWAITS_BODY] = False
            return message

        try:
            await self._app(inner, noting_receive, counting_send)
        except ClientDisconnect:  # before all of a body had come: no answer would reach the client
            if not scope.get(ANSWERED):
                self._note_cancelled(answer, inner)

    def _note(self, answer: Response, scope: Scope, start: Message) -> None:
        """Name and count an answer that begins, and note it; errors have their name and trace already."""
        fields = MutableHeaders(raw=start["headers"])
        for name, value in answer.headers.items():
            fields.setdefault(name, value)
        route = self._route(scope)
        self._api().metrics.count_http(route, answer.method, start["status"])
        if access_log := self._api().services.access_log:
            answer.request_id, answer.status = fields["x-request-id"], start["status"]
            answer.key, answer.problem = scope.get("key", ""), scope.get("problem")
            answer.timestamps.written_ns = time.monotonic_ns()
            access_log.note(answer, route)

    def _note_cancelled(self, answer: Response, scope: Scope) -> None:
        if access_log := self._api().services.access_log:
            answer.key = scope.get("key", "")
            access_log.note_cancelled(answer, self._route(scope))

    def _route(self, scope: Scope) -> str:
        path = getattr(scope.get("route"), "path", scope["path"])
        return path if path in self._routes else ""
