"""Answers that are there before all of their request's body has come (RFC 9112, 9.3)."""

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.http.connection_state import BODY_ENDED


class EarlyAnswers:
    """ASGI middleware: an answer before the end of a body is its connection's last, which ends once the body has come.

    Another request could not follow it if the client gives the body up, and closing at once would lose the answer:
    bytes that are not read reset a connection.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass everything on; of an early answer the end comes after that of the body."""

        async def send_early(message: Message) -> None:
            if not scope.get(BODY_ENDED):
                if message["type"] == "http.response.start":
                    MutableHeaders(scope=message)["connection"] = "close"
                elif not message.get("more_body"):
                    await send({**message, "more_body": True})
                    message = {"type": message["type"]}
                    while not scope.get(BODY_ENDED) and (await receive())["type"] == "http.request":
                        pass
            await send(message)

        await self._app(scope, receive, send_early if scope["type"] == "http" else send)
