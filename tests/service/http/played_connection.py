"""A connection without a network; behind it are a real application, real services, and a worker that the test plays."""

import asyncio
import socket
from collections.abc import Awaitable, Callable
from io import BytesIO
from types import SimpleNamespace
from typing import Any

import uvicorn
from fastapi import FastAPI
from uvicorn.server import ServerState

from models.artifact.artifact import Artifact
from service.http.connection_state import ANSWERING, LAST, ConnectionState
from service.http.hangup_watch import HangupWatch
from service.http.protocol import MAX_HEAD_BYTES, PredictionProtocol
from service.http.read_budget import ReadBudget
from service.routes.routes import add_routes
from tests.service.prediction.played import BYTES, PlayedProcess, picture, play
from tests.service.wire import Answer, get, post, read_answer

SHORT_S = 0.02

LIVEZ, NOWHERE = get("/livez"), get("/nowhere")
LONG = get("/livez", "X-Long: " + "x" * (MAX_HEAD_BYTES * 2 // 3))
GOOD, OTHER = post(picture(1)), post(picture(2))
GOOD_HEAD = GOOD[: -len(picture(1))]
UNKNOWN = post(picture(1), "/predictions/zebra")  # refused when it is complete
DELETE = post(picture(1), method="DELETE")  # refused at its headers
TOO_LARGE = post(bytes(BYTES))
CONNECT = b"CONNECT server:443 HTTP/1.1\r\nHost: server:443\r\n\r\n"
GARBAGE = b"\x01\x02 this is no HTTP\r\n\r\n"
CLOSE = "Connection: close"
LAST_GOOD = post(picture(1), "/predict", CLOSE)
EXPECT = "Expect: 100-continue"
H2C = ("Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAMAAABkAAQAoAAAAAIAAAAA")
CHUNKED = get("/predict", "Transfer-Encoding: chunked", method="POST") + b"".join(
    b"%x\r\n%s\r\n" % (len(part), part) for part in (picture(1)[:20], picture(1)[20:], b"")
)


class Transport(asyncio.Transport):
    """Keeps what is written; the client at its other end reads all, and leaves when the test says so."""

    def __init__(self) -> None:
        self.socket, self.client = socket.socketpair()
        super().__init__({"socket": self.socket})
        self.written = bytearray()
        self.reading, self.closing, self.ended = True, False, False
        self.over = asyncio.Event()  # the server has ended its side, or closed

    def write(self, data: bytes) -> None:  # type: ignore[override]
        assert not self.ended, "written after the end"
        if not self.closing:
            self.written += data

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        self.ended = True
        self.over.set()

    def close(self) -> None:
        self.closing = True
        self.over.set()

    abort = close

    def is_closing(self) -> bool:
        return self.closing

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True

    def get_write_buffer_size(self) -> int:
        return 0


class Unhurried(ReadBudget):
    """Takes all data in the turn in which it comes, however slow this machine is now."""

    has_time = True

    def note_arrival(self) -> bool:
        super().note_arrival()
        return True


class Overloaded(ReadBudget):
    """Takes no data in the turn in which it comes."""

    def note_arrival(self) -> bool:
        super().note_arrival()
        return False


class Server:
    """The application of one API process, to which connections can be made."""

    def __init__(self, process: PlayedProcess) -> None:
        self.process = process
        app = FastAPI()
        app.root_path = process.settings.root_path
        add_routes(app, lambda: process.api, origins=process.settings.cors_origins)
        app.state.api, app.state.budget = process.api, Unhurried(lambda: 0)
        app.state.ports = SimpleNamespace(answers=lambda *_: True)
        app.state.hangups = HangupWatch()
        keep_alive_s: Any = process.settings.keep_alive_timeout
        self.config = uvicorn.Config(app, log_config=None, timeout_keep_alive=keep_alive_s, lifespan="off", ws="none")
        self.config.load()

    async def work_off(self) -> None:
        """Let the worker answer what is not wanted any more, until nothing is held."""
        while not self.process.is_whole():
            if message := self.process.take():
                self.process.reply(message)
            await asyncio.sleep(0)

    def connect(self, transport: Transport | None = None) -> "Connection":
        return Connection(self, transport or Transport())


class Connection:
    """One client."""

    def __init__(self, server: Server, transport: Transport) -> None:
        self.process = server.process
        self.transport = transport
        self.protocol = PredictionProtocol(config=server.config, server_state=ServerState(), app_state={})
        self.protocol.connection_made(self.transport)

    def send(self, *pieces: bytes) -> "Connection":
        """What the client sends arrives in these pieces."""
        for piece in pieces:
            self.protocol.data_received(piece)
        return self

    @property
    def state(self) -> ConnectionState:
        return self.protocol._state

    def answers(self) -> list[Answer]:
        """What has been written, which must be whole responses."""
        stream, found = BytesIO(bytes(self.transport.written)), []
        while stream.tell() < len(self.transport.written):
            found.append(read_answer(stream))
        return found

    def statuses(self) -> list[int]:
        return [answer.status for answer in self.answers()]

    async def rest(self) -> "Connection":
        """Let the worker and the application answer all that is due."""
        while self.protocol._in_cycle or self.state in (ANSWERING, LAST):
            if message := self.process.take():
                self.process.reply(message)
            await asyncio.sleep(0)
            if self.transport.closing and not self.protocol._in_cycle:
                break
        return self

    def end(self) -> bool:
        """The client ends its sending side; whether the connection stays."""
        return self.protocol.eof_received()

    def leave(self, error: Exception | None = None) -> None:
        """The connection is over, and nothing waits for it."""
        self.protocol.connection_lost(error)
        timers = [self.protocol.timeout_keep_alive_task, self.protocol._unread, self.protocol._timeout._timer]
        assert all(timer is None or timer.cancelled() for timer in timers)
        self.transport.socket.close()
        self.transport.client.close()


Scene = Callable[[Server], Awaitable[None]]


def serve(scene: Scene, artifact: Artifact, **settings: object) -> None:
    """Play a scene with an application; afterwards nothing may be held, and no connection watched."""

    async def run(process: PlayedProcess) -> None:
        process.up()
        server = Server(process)
        await scene(server)
        assert process.is_whole()
        assert not server.config.app.state.hangups._on_hangup, "a connection that is over is watched"

    play(run, artifact, **settings)
