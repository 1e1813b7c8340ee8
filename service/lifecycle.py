"""All that is LitServe's and uvicorn's own: their processes, their protocol, and the names of theirs that we rely on.

LitServe gives the application, the placement on devices and the worker process (`inference_worker`, spawned, with its
`LitAPI` and `LitLoop`). How processes are watched and ended is `service.supervision`'s. Requests never pass through
LitServe's queues, and its Manager process is never started.
"""

import asyncio
import contextlib
import ctypes
import gc
import os
import select
import signal
import socket
import struct
from collections.abc import AsyncIterator, Iterator
from multiprocessing import get_context
from multiprocessing.process import BaseProcess
from typing import Any

import httptools
import uvicorn
from fastapi import FastAPI
from litserve import LitAPI, LitServer
from litserve.loops import LitLoop
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from models.artifact import Artifact
from service.answer import Answer, Journey, begin_answer, fail
from service.api import Api
from service.errors import BadRequest, HeadersTooLarge, RequestTimeout, ServiceError
from service.exchange import Exchange
from service.loading import Load
from service.logs import configure_logs
from service.metrics import Metrics
from service.repository import Catalog
from service.routes import add_routes
from service.settings import Settings
from service.target import parse_target
from service.transport import Channels, Pipe, SharedObject
from service.worker import Worker

MAX_HEAD_BYTES = 64 << 10  # of one request
BACKLOG = 2048  # connections that the kernel holds until they are accepted
LINGER_S = 0.5  # how long a connection that is to close is kept, for what is already on its way
HANDSHAKE_S = 0.1  # time for a handshake that has begun to end
EMPTY_BACKLOG_S = 0.5  # the longest that stopping goes on accepting

_PR_SET_PDEATHSIG = 1  # prctl(2)
_SO_ATTACH_FILTER = 26  # socket(7)
_OFFERS = (b"connection", b"upgrade", b"http2-settings")  # header fields of an offer to change the protocol


def die_with_parent(parent_pid: int) -> None:
    """Have the kernel kill this process when its parent ends, however that happens (prctl(2))."""
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent_pid:  # it ended before the call
        os._exit(1)


class InferenceLoop(LitLoop):  # type: ignore[misc]
    """LitServe calls `run` again and again; each call answers one batch."""

    def run(self, lit_api: "InferenceAPI", *_: object) -> None:
        """Answer one batch."""
        lit_api.worker.serve_one()


class InferenceAPI(LitAPI):  # type: ignore[misc]
    """What LitServe sends to each worker process, and sets up there."""

    worker: Worker

    def __init__(self, artifacts: tuple[Artifact, ...], load: Load, channels: Channels, settings: Settings) -> None:
        super().__init__(loop=InferenceLoop())
        self._artifacts, self._load, self._channels = SharedObject(artifacts), load, channels
        self._logs = settings.log_format, settings.log_level
        self._parent_pid = os.getpid()

    def setup(self, device: str) -> None:
        """Load and prove the models; runs in the worker."""
        die_with_parent(self._parent_pid)
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the supervisor ends us
        configure_logs(*self._logs)
        seat = int(os.environ["LITSERVE_WORKER_ID"])
        self.worker = Worker(seat, device, self._artifacts.load(), self._load, self._channels)


class Server(LitServer):  # type: ignore[misc]
    """LitServe's server with the parts replaced that requests and faults pass through; launches the processes."""

    def __init__(
        self,
        settings: Settings,
        catalog: Catalog,
        channels: Channels,
        metrics: Metrics,
        load: Load,
        accelerator: str,
        devices: int,
        workers_per_device: int,
    ) -> None:
        self._settings, self._catalog, self._channels, self._metrics = settings, catalog, channels, metrics
        super().__init__(
            InferenceAPI(catalog.artifacts, load, channels, settings),
            accelerator=accelerator,
            devices=devices,
            workers_per_device=workers_per_device,
            timeout=False,
        )
        self._monitor_workers = False
        # LitServe's places for its queues; nothing is put there.
        self.litapi_request_queues = {self.lit_api.api_path: None}
        self._transport = None
        self.workers_setup_status: dict[str, str] = {}
        self.listener = listen(settings.host, settings.port)

    @property
    def url(self) -> str:
        """Where it listens."""
        host, port = self.listener.getsockname()[:2]
        return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"

    def register_endpoints(self) -> None:
        """Our routes instead of LitServe's `/`, `/health`, `/info` and `/predict`."""
        self.app.title = "resnet-serve"
        add_routes(self.app, lambda: self.app.state.api)

    def _register_middleware(self) -> None:
        """Without LitServe's gzip: answers are small, and compressing costs more than it saves."""

    @contextlib.asynccontextmanager
    async def lifespan(self, app: FastAPI) -> AsyncIterator[None]:
        """Between the first and the last request of an API process; LitServe's would read its response queue."""
        del app
        yield

    def launch_worker(self, seat: int) -> BaseProcess:
        """Spawn the worker of this seat."""
        process: BaseProcess = self.launch_single_inference_worker(self.lit_api, seat)
        return process

    def launch_api(self, index: int, control: Pipe) -> BaseProcess:
        """Fork an API process."""
        process = get_context("fork").Process(
            target=self._run_api, args=(index, control, os.getpid()), name=f"api-{index}"
        )
        process.start()
        return process

    def close_listener(self) -> None:
        """Close this process's copy of the listening socket."""
        self.listener.close()

    def _run_api(self, index: int, control: Pipe, parent_pid: int) -> None:
        """The whole life of an API process."""
        signal.set_wakeup_fd(-1)
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)  # the supervisor tells us when to stop
        die_with_parent(parent_pid)
        gc.freeze()  # what the fork brought along stays: neither scanned again nor copied
        config = uvicorn.Config(
            self.app,
            http=Door,
            loop="uvloop",
            ws="none",
            log_config=None,
            access_log=False,
            server_header=False,
            backlog=BACKLOG,
            timeout_keep_alive=self._settings.keep_alive_timeout,  # type: ignore[arg-type]
            timeout_graceful_shutdown=self._settings.grace,  # type: ignore[arg-type]
        )
        server = ApiServer(config)

        async def serve() -> None:
            api = self.app.state.api = Api(
                index, self._channels, control, self._catalog, self._metrics, self._settings, server.stop
            )
            await server.serve([self.listener])
            api.close()

        with asyncio.Runner(loop_factory=config.get_loop_factory()) as runner:
            runner.run(serve())


class ApiServer(uvicorn.Server):
    """uvicorn's server, stopped by the supervisor instead of by signals."""

    def stop(self) -> None:
        """Take no more connections, answer what has come, end."""
        self.should_exit = True

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """No signals: uvicorn would install its own handlers."""
        yield

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Accept whoever has been let in already: closing the listener would reset their connections."""
        for listener in sockets or []:
            refuse_newcomers(listener)
        await asyncio.sleep(HANDSHAKE_S)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(EMPTY_BACKLOG_S):
                while any(select.select(sockets or [], [], [], 0)[0]):
                    await asyncio.sleep(0.001)
        await super().shutdown(sockets)


def refuse_newcomers(listener: socket.socket) -> None:
    """Have the kernel drop every SYN that comes to this listener; handshakes under way come to their end.

    A socket filter does it (classic BPF, socket(7)). Where there is none, who comes in the last moment is reset.
    """
    load_flags, test_syn, drop, keep = (0x30, 0, 0, 13), (0x45, 0, 1, 0x02), (0x06, 0, 0, 0), (0x06, 0, 0, 0xFFFFFFFF)
    program = b"".join(struct.pack("HBBI", *instruction) for instruction in (load_flags, test_syn, drop, keep))
    buffer = ctypes.create_string_buffer(program, len(program))
    with contextlib.suppress(OSError):
        listener.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, struct.pack("HP", 4, ctypes.addressof(buffer)))


class Door(HttpToolsProtocol):
    """uvicorn's HTTP protocol, in which prediction requests leave for an `Exchange` once their headers are complete.

    Everything else goes on to FastAPI. What is pipelined behind a prediction is not read: the connection closes after
    the answer, and the client sends it again (RFC 9112, 9.3.2).
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401 - whatever uvicorn passes
        super().__init__(*args, **kwargs)
        self.api: Api = self.config.app.state.api  # type: ignore[union-attr]
        self.exchange: Exchange | None = None
        self._receiving = self._in_body = False  # of the message that is being parsed
        self._head_bytes = 0
        self._ignoring = False  # something is pipelined behind a prediction
        self._closing = False  # after the answer that is due
        self._deaf = False  # the last answer is given
        self._clock: asyncio.TimerHandle | None = None  # runs while a message is incomplete

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """A client has come; if it says nothing it is let go like an idle one."""
        super().connection_made(transport)
        self.timeout_keep_alive_task = self.loop.call_later(self.timeout_keep_alive, self.timeout_keep_alive_handler)

    def connection_lost(self, exc: Exception | None) -> None:
        """The client has left."""
        self._stop_clock()
        if self.exchange:
            self.exchange.abandon()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Parse what came; if a message is incomplete after it, the rest has to come in time."""
        if self._deaf:
            return
        self._unset_keepalive_if_required()
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            self._stay_with_http(data[upgrade.args[0] :])
            return
        except httptools.HttpParserError:
            self._refuse(BadRequest("what came is not HTTP/1.1"))
        if not self._receiving or self.transport.is_closing():
            return
        if not self._in_body and (size := self._head_bytes + len(data)) > MAX_HEAD_BYTES:
            self._refuse(HeadersTooLarge(f"{size} bytes of headers have come; at most {MAX_HEAD_BYTES} are taken"))
            return
        self._head_bytes += len(data)
        if not self._clock:
            settings = self.api.settings
            seconds = settings.body_timeout if self._in_body else settings.header_timeout
            self._clock = self.loop.call_later(seconds, self._on_clock)

    def _stay_with_http(self, rest: bytes) -> None:
        """Take a request that offers another protocol, h2c say, as if it did not: a server may (RFC 9110, 7.8)."""
        method = self.parser.get_method()
        fields = [name + b": " + value + b"\r\n" for name, value in self.headers if name not in _OFFERS]
        self.parser = httptools.HttpRequestParser(self)
        self.data_received(b"%s %s HTTP/1.1\r\n%s\r\n%s" % (method, self.url, b"".join(fields), rest))

    def on_message_begin(self) -> None:
        """A message begins, its first byte has come."""
        if self.exchange:
            self._ignoring = self._closing = True
            self.flow.pause_reading()
        if not self._ignoring:
            self._receiving, self._in_body, self._head_bytes = True, False, 0
            super().on_message_begin()

    def on_url(self, url: bytes) -> None:
        """Part of the request's target."""
        if not self._ignoring:
            super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        """One header field."""
        if not self._ignoring:
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """Choose who answers."""
        if self._ignoring or self.parser.should_upgrade():
            return
        self._stop_clock()
        self._in_body = True
        url = httptools.parse_url(self.url)
        target = parse_target(url.path)
        if target is None:
            super().on_headers_complete()
            if self.api.status.draining:
                self.cycle.keep_alive = False
            return
        if self.cycle is not None and not self.cycle.response_complete:
            self._ignoring, self.cycle.keep_alive = True, False
            return
        method = self.parser.get_method().decode("latin-1")
        self.exchange = Exchange(self.api, method, target, url.query or b"", dict(self.headers), self._respond)
        self._closing = self._closing or not self.parser.should_keep_alive()
        self.exchange.begin()
        if self.expect_100_continue and not self.exchange.answered:
            self.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def on_body(self, body: bytes) -> None:
        """Part of the body."""
        if self._ignoring:
            return
        if self.exchange is None:
            super().on_body(body)
        else:
            self.exchange.feed(body)

    def on_message_complete(self) -> None:
        """The message has come whole."""
        if self._ignoring or self.parser.should_upgrade():
            return
        self._stop_clock()
        self._receiving = False
        if self.exchange is None:
            super().on_message_complete()
            return
        refused = self.exchange.answered
        self.exchange.complete()  # may answer at once, which ends the turn
        if refused:
            self._end_turn()

    def shutdown(self) -> None:
        """Close once nothing is due; a request may be on its way to an idle connection."""
        self._closing = True
        if self.exchange is not None:
            return
        if self.cycle is None or self.cycle.response_complete:
            self.loop.call_later(LINGER_S, self._close_if_idle)
        else:
            self.cycle.keep_alive = False

    def _close_if_idle(self) -> None:
        if self.exchange is None and (self.cycle is None or self.cycle.response_complete):
            self.transport.close()

    def _respond(self, answer: Answer) -> None:
        """Write the exchange's answer."""
        assert self.exchange is not None
        if self.api.status.draining or (self.expect_100_continue and not self.exchange.received):
            self._closing = True
        self._write(answer)
        if self.exchange.received:
            self._end_turn()

    def _end_turn(self) -> None:
        """Answered and received: the connection is free for the next request, or closes."""
        self.exchange = None
        if self._ignoring:
            self._close_gently()
        elif self._closing:
            self.transport.close()
        else:
            self._unset_keepalive_if_required()
            self.timeout_keep_alive_task = self.loop.call_later(
                self.timeout_keep_alive, self.timeout_keep_alive_handler
            )

    def _write(self, answer: Answer) -> None:
        parts = [STATUS_LINE[answer.status]]
        for name, value in self.server_state.default_headers:
            parts += [name, b": ", value, b"\r\n"]
        parts += [f"{name}: {value}\r\n".encode("latin-1") for name, value in answer.headers.items()]
        parts.append(b"content-length: %d\r\n" % len(answer.body))
        parts.append(b"connection: close\r\n\r\n" if self._closing else b"\r\n")
        if answer.to_method != "HEAD":
            parts.append(answer.body)
        self.transport.write(b"".join(parts))

    def _on_clock(self) -> None:
        """The rest of a message did not come in time."""
        self._clock = None
        if self.exchange is None and self._in_body:
            self.transport.close()
        elif self.exchange is None:
            self._refuse(RequestTimeout("the headers did not arrive in time"))
        else:
            self._closing = True
            self.exchange.expire()
            self._close_gently()

    def _refuse(self, error: ServiceError) -> None:
        """Answer what is no request yet, or not any more, and close."""
        self._closing = True
        if self.exchange is not None:
            self.exchange.refuse(error)
        else:
            answer = begin_answer("", {}, Journey.begin())
            fail(answer, error)
            self._write(answer)
            self.api.metrics.count_http("", "other", answer.status)
        self._close_gently()

    def _close_gently(self) -> None:
        """Say that nothing more comes, and close when the client has: with bytes unread, it would lose the answer."""
        self._deaf = True
        self._stop_clock()
        self.flow.resume_reading()
        if not self.transport.is_closing():
            self.transport.write_eof()
            self._clock = self.loop.call_later(LINGER_S, self.transport.close)

    def _stop_clock(self) -> None:
        if self._clock:
            self._clock.cancel()
            self._clock = None


def listen(host: str, port: int) -> socket.socket:
    """The listening socket; OSError that says what to do when the address is taken or not ours."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=BACKLOG)
    except OSError as error:
        raise OSError(f"cannot listen on {host}:{port}: {error.strerror}; choose another with --port") from error
