"""Faults of our own in what FastAPI answers."""

from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.routes.route_access import problem_answer


class AnswerFaults:
    """ASGI middleware that answers what no route has foreseen, unless an answer has begun."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass everything on; a client that leaves is no fault."""
        begun = False

        async def noting_send(message: Message) -> None:
            nonlocal begun
            begun = True
            await send(message)

        try:
            await self._app(scope, receive, noting_send)
        except ClientDisconnect:
            raise
        except Exception as error:
            if begun or scope["type"] != "http":
                raise
            await problem_answer(scope, error)(scope, receive, send)
