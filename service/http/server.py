"""uvicorn's server, stopped by the supervisor, with connections accepted by our own acceptor."""

import asyncio
import contextlib
import socket
import ssl
from collections.abc import Callable, Iterable, Iterator
from functools import partial

import structlog
import uvicorn

from service.auth.tls import ServerTls
from service.errors import ServiceError
from service.http.accept_share import AcceptShare
from service.http.acceptor import BACKLOG, Acceptor
from service.http.idle_connections import make_room
from service.http.ports import Ports
from service.http.protocol import InsideProtocol, PredictionProtocol
from service.process.shortage import in_words

log = structlog.get_logger()

DATE_S = 1.0  # time between two updates of the Date header


class ApiServer(uvicorn.Server):
    """uvicorn's server, stopped by the supervisor instead of by signals."""

    def __init__(
        self,
        config: uvicorn.Config,
        ports: Ports,
        tls: ServerTls | None,
        patience_s: float,
        counts: memoryview | list[int],
        index: int,
    ) -> None:
        """`patience_s`: how long a client may take for its TLS handshake; `counts`: of connections, by API process."""
        super().__init__(config)
        self._share = AcceptShare(self.server_state.connections, counts, index)
        self._ports, self._tls, self._patience_s = ports, tls, patience_s
        self._stopping = asyncio.Event()
        self._acceptors: list[Acceptor] = []

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
            self._share.publish()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), DATE_S)

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """No signals: uvicorn would install its own handlers."""
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Accept connections; uvloop's own server accepts one of each socket in a turn, however many wait."""
        await super().startup([])
        self._accept(one for one in sockets or [] if not self._ports.waits(one))

    def listen(self) -> None:
        """Listen also where that waited until predictions can be answered; stop if somebody else does by now."""
        waiting = [one for one in self._ports.sockets if self._ports.waits(one)]
        try:
            for one in waiting:  # each API process does, which changes nothing from the second on
                one.listen(BACKLOG)
        except OSError as error:
            log.error("cannot listen", why=in_words(error))
            self.stop()
        else:
            self._accept(waiting)

    def _accept(self, listeners: Iterable[socket.socket]) -> None:
        times_s = self._patience_s, self.config.timeout_keep_alive
        close_idle = partial(make_room, self.server_state.connections)
        self._acceptors += [
            Acceptor(one, self._make_protocol(one), self._share, close_idle, self._get_tls(one), *times_s)
            for one in listeners
        ]

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Accept the connections that are established already, for which idle ones make room, then close."""
        for connection in list(self.server_state.connections):
            connection.shutdown()
        await asyncio.gather(*(acceptor.close() for acceptor in self._acceptors))
        await super().shutdown(sockets)

    def _get_tls(self, listener: socket.socket) -> Callable[[], ssl.SSLContext] | None:
        if self._tls is None:
            return None
        return partial(self._tls.context, asks_client=self._ports.asks_client(listener))

    def _make_protocol(self, listener: socket.socket) -> Callable[[], asyncio.Protocol]:
        kind = PredictionProtocol if self._ports.predicts(listener) else InsideProtocol
        return partial(kind, config=self.config, server_state=self.server_state, app_state=self.lifespan.state)
