"""OPTIONS: which methods a route takes."""

from fastapi import FastAPI
from starlette.responses import Response
from starlette.routing import Match
from starlette.types import ASGIApp, Receive, Scope, Send

from service.parsing.head import METHODS, parse_target, without_prefix

_READING = ("GET", "HEAD")


class AnswerOptions:
    """ASGI middleware that answers OPTIONS for every route of `site`, and for `*` (RFC 9110, 9.3.7)."""

    def __init__(self, app: ASGIApp, site: FastAPI) -> None:
        self._app, self._site = app, site

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on every other method, and what is asked of a path that is no route."""
        methods = allowed_methods(self._site, scope) if scope.get("method") == "OPTIONS" else ()
        answer = Response(headers={"allow": ", ".join((*methods, "OPTIONS"))}) if methods else self._app
        await answer(scope, receive, send)


def allowed_methods(site: FastAPI, scope: Scope) -> tuple[str, ...]:
    """The methods that what a request names takes, beside OPTIONS; none if it is no route."""
    if scope["path"] == "*":
        return (*_READING, *METHODS)
    if target := parse_target(without_prefix(scope["raw_path"], scope.get("root_path", "").encode())):
        return target.methods
    for method, methods in (("GET", _READING), ("POST", ("POST",)), ("DELETE", ("DELETE",))):
        asked = dict(scope, method=method)
        if any(route.matches(asked)[0] is Match.FULL for route in site.routes):
            return methods
    return ()
