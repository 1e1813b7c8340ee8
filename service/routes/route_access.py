"""Which key a route asks for, and which port answers it: by the tag that it carries."""

import time
from collections.abc import Callable
from functools import partial

from fastapi import FastAPI
from starlette.datastructures import MutableHeaders
from starlette.responses import Response
from starlette.routing import BaseRoute, Match
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.auth.keys import Scope as KeyScope
from service.errors import Forbidden, NotFound, ServiceError
from service.http.ports import ADMIN, MAIN, PROBES
from service.parsing.head import Head, Target, is_inference_path
from service.prediction.api_process import ApiProcess
from service.prediction.inference_response import InferenceResponse
from service.prediction.response import Response as PredictionResponse
from service.prediction.response import begin_response

DOCUMENTS = "documents"
"""A tag of routes. With it or PROBES they need no key, with ADMIN one with the scope admin, without any predict."""


class CheckAccess:
    """ASGI middleware that lets a request to a route of `site` through to it, or refuses it before its body is read.

    Without keys all may ask for everything, but for what changes the server: that needs a key.
    """

    def __init__(self, app: ASGIApp, site: FastAPI, api: Callable[[], ApiProcess]) -> None:
        self._app, self._site, self._api = app, site, api

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, with the name of its key as `scope["key"]`, or refuse it by its `scope["route"]`."""
        answer: ASGIApp = self._app
        if scope["type"] == "http":
            route = find_route(self._site, scope)
            try:
                self._check(scope, route)
            except ServiceError as error:
                scope.update(key=error.key, route=route)
                answer = problem_answer(scope, error)
        await answer(scope, receive, partial(_send_uncached, send))

    def _check(self, scope: Scope, route: BaseRoute | None) -> None:
        if not self._site.state.ports.answers(scope["server"][1], area_of(route)):
            raise no_route(scope)
        needed = needed_scope(route)
        if needed and scope["method"] != "OPTIONS":  # browsers ask so before they send a key
            scope["key"] = self._admit(scope, needed)

    def _admit(self, scope: Scope, needed: KeyScope) -> str:
        guard = self._api().services.guard
        if needed == "admin" and not (guard and guard.has_keys):
            raise Forbidden("this needs an API key with the scope admin, and the server knows no keys")
        return guard.admit(dict(scope["headers"]), scope["client"], needed) if guard else ""


async def _send_uncached(send: Send, message: Message) -> None:
    """Send on what no cache may keep: all but files, which have an ETag.

    Models and metrics change, and an answer to a key is not for other clients; Varnish keeps for two minutes what says
    nothing of caches.
    """
    if message["type"] == "http.response.start" and "etag" not in (headers := MutableHeaders(scope=message)):
        headers["cache-control"] = "no-store"
    await send(message)


def no_route(scope: Scope, hint: str = "") -> NotFound:
    """The error of a request for what is not there."""
    return NotFound(f"no such route: {scope['path'][:200]}{hint}")


def find_route(site: FastAPI, scope: Scope) -> BaseRoute | None:
    """The route that will answer, or tell that it does not take the method; None if there is none."""
    found = [(route, route.matches(scope)[0]) for route in site.routes]
    full = (route for route, match in found if match is Match.FULL)
    return next(full, next((route for route, match in found if match is Match.PARTIAL), None))


def area_of(route: BaseRoute | None) -> str:
    """By which port it is answered."""
    tags = getattr(route, "tags", ())
    return next((tag for tag in (PROBES, ADMIN) if tag in tags), MAIN)


def needed_scope(route: BaseRoute | None) -> KeyScope | None:
    """What a key has to be good for; None for what everyone may ask for."""
    tags = getattr(route, "tags", ())
    if route is None or PROBES in tags or DOCUMENTS in tags:
        return None
    return "admin" if ADMIN in tags else "predict"


def path_of(scope: Scope) -> str:
    """The path without the prefix that a proxy publishes the server under."""
    return str(scope["path"]).removeprefix(scope.get("root_path", ""))


def problem_answer(scope: Scope, error: Exception) -> Response:
    """What tells of an error: a problem document, or what the Open Inference Protocol has for it.

    The access log finds the document as `scope["problem"]`.
    """
    kind = InferenceResponse if is_inference_path(path_of(scope)) else PredictionResponse
    head = Head(scope["method"], Target(scope["path"]), b"", dict(scope["headers"]))
    problem = begin_response(head, time.monotonic_ns(), kind=kind)
    problem.fail(error)
    scope["problem"] = problem.problem
    return Response(problem.body, problem.status, problem.headers)
