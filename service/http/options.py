"""OPTIONS: which methods a route takes."""

from collections.abc import Sequence

from fastapi import FastAPI
from starlette.responses import Response
from starlette.routing import Match
from starlette.types import ASGIApp, Receive, Scope, Send

from service.parsing.head import METHODS, parse_target

READING = ("GET", "HEAD")


class AnswerOptions:
    """ASGI middleware that answers OPTIONS for every route of `site`, and for `*` (RFC 9110, 9.3.7)."""

    def __init__(self, app: ASGIApp, site: FastAPI) -> None:
        self._app, self._site = app, site

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on every other method, and what is asked of a path that is no route."""
        methods = self._methods(scope) if scope.get("method") == "OPTIONS" else ()
        answer = Response(headers={"allow": ", ".join((*methods, "OPTIONS"))}) if methods else self._app
        await answer(scope, receive, send)

    def _methods(self, scope: Scope) -> Sequence[str]:
        if scope["path"] == "*":
            return (*READING, *METHODS)
        if parse_target(scope["raw_path"]):
            return METHODS
        reading = dict(scope, method="GET")
        return READING if any(route.matches(reading)[0] is Match.FULL for route in self._site.routes) else ()
