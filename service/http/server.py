"""uvicorn's server, stopped by the supervisor, with connections accepted by our own acceptor."""

import asyncio
import contextlib
import socket
from collections.abc import Iterator

import uvicorn

from service.errors import ServiceError
from service.http.acceptor import Acceptor
from service.http.protocol import PredictionProtocol

DATE_S = 1.0  # time between two updates of the Date header


class ApiServer(uvicorn.Server):
    """uvicorn's server, stopped by the supervisor instead of by signals."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self._stopping = asyncio.Event()

    def stop(self) -> None:
        """Accept no more connections, answer what has come, end."""
        self.should_exit = True
        self._stopping.set()

    def refuse_all(self, error: ServiceError) -> None:
        """Respond with this error to every request that is under way, whole or not."""
        for connection in list(self.server_state.connections):
            if isinstance(connection, PredictionProtocol):
                connection.refuse_request(error)

    async def main_loop(self) -> None:
        """Keep the date in the responses until stopped; uvicorn's own loop wakes ten times a second."""
        while not await self.on_tick(0):
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), DATE_S)

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """No signals: uvicorn would install its own handlers."""
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Accept connections; uvloop's own server accepts one of each socket in a turn, however many wait."""
        await super().startup([])
        self._acceptors = [Acceptor(one, self._make_protocol, self.server_state.connections) for one in sockets or []]

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Accept the connections that are established already, for which idle ones make room, then close."""
        for connection in list(self.server_state.connections):
            connection.shutdown()
        await asyncio.gather(*(acceptor.close() for acceptor in self._acceptors))
        await super().shutdown(sockets)

    def _make_protocol(self) -> asyncio.Protocol:
        return PredictionProtocol(config=self.config, server_state=self.server_state, app_state=self.lifespan.state)
