"""The names of LitServe's and uvicorn's own that `pools/litserve`, `http/server` and `http/protocol` rely on.

Both are pinned; when a new release moves one, the test of that name tells which.
"""

import asyncio
import multiprocessing
import os
import socket
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from http import HTTPStatus
from pathlib import Path
from typing import Any

import httptools
import pytest
import uvicorn
import uvloop
from fastapi import FastAPI
from litserve import LitAPI, LitServer
from litserve.loops import LitLoop, inference_worker
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle
from uvicorn.server import ServerState

from service.http.connection import HttpConnection
from service.http.protocol import PredictionProtocol
from service.http.server import ApiServer
from service.pools.litserve import InferenceAPI, InferenceLoop, LitServeLauncher
from tests.service.served import DEADLINE_S

RUNS = 3


class Loop(LitLoop):
    """Tells the file of each call, and ends the worker after some."""

    calls = 0

    def run(self, lit_api: "TellingAPI", *_: object) -> None:
        self.calls += 1
        lit_api.tell(f"run {self.calls}")
        if self.calls == RUNS:
            sys.exit(7)


class TellingAPI(LitAPI):
    """Tells a file what is done with it."""

    def __init__(self, file: Path) -> None:
        super().__init__(loop=Loop())
        self.file = file

    def tell(self, what: str) -> None:
        with self.file.open("a") as stream:
            print(what, file=stream)

    def setup(self, device: str) -> None:
        self.tell(f"setup {device} of worker {os.environ['LITSERVE_WORKER_ID']}")


class Stock(LitServer):
    """Tells which of our overrides LitServe calls."""

    def __init__(self, api: TellingAPI) -> None:
        self.called: list[str] = []
        super().__init__(api, accelerator="cpu", devices=1, workers_per_device=2, timeout=False)

    def register_endpoints(self) -> None:
        self.called.append("register_endpoints")

    def _register_middleware(self) -> None:
        self.called.append("_register_middleware")

    @asynccontextmanager
    async def lifespan(self, app: FastAPI) -> AsyncIterator[None]:
        assert app is self.app
        self.called.append("lifespan")
        yield


@pytest.fixture
def stock(tmp_path: Path) -> Stock:
    return Stock(TellingAPI(tmp_path / "told"))


@pytest.mark.parametrize("name", ["register_endpoints", "_register_middleware"])
def test_litserve_calls_what_we_override_when_it_is_made(stock: Stock, name: str) -> None:
    assert stock.called.count(name) == 1
    assert name in vars(LitServeLauncher)
    assert callable(getattr(LitServer, name))


def test_litserve_calls_our_lifespan(stock: Stock) -> None:
    async def live() -> None:
        async with stock.app.router.lifespan_context(stock.app):
            stock.called.append("alive")

    asyncio.run(live())
    assert stock.called[-2:] == ["lifespan", "alive"]
    assert "lifespan" in vars(LitServeLauncher)


@pytest.mark.parametrize("name", ["_monitor_workers", "app", "lit_api"])
def test_litserve_has_the_attribute(stock: Stock, name: str) -> None:
    assert getattr(stock, name)


def test_a_worker_of_litserves_is_set_up_and_runs_our_loop_again_and_again_without_its_queues(stock: Stock) -> None:
    arguments = (stock.lit_api, stock.devices[0], 1, None, None, {}, stock._callback_runner, False)
    process = multiprocessing.get_context("fork").Process(target=inference_worker, args=arguments)
    process.start()
    process.join(DEADLINE_S)
    assert process.exitcode == 7
    told = stock.lit_api.file.read_text().splitlines()
    assert told == ["setup cpu of worker 1", *(f"run {call}" for call in range(1, RUNS + 1))]
    assert {"setup", "run"} <= {*vars(InferenceAPI), *vars(InferenceLoop)}


# uvicorn


class Recorder(uvicorn.Server):
    """Tells which of our overrides uvicorn calls."""

    called: tuple[str, ...] = ()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        assert sockets
        self.called += ("startup",)
        await super().startup([])
        assert self.server_state.connections == set()
        HttpToolsProtocol(self.config, self.server_state, self.lifespan.state)

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        self.called += ("capture_signals",)
        yield

    async def main_loop(self) -> None:
        self.called += ("main_loop",)
        assert not await self.on_tick(0)
        assert [name for name, _ in self.server_state.default_headers] == [b"date", b"server"]
        self.should_exit = True
        assert await self.on_tick(0)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        assert sockets
        self.called += ("shutdown",)
        await super().shutdown(sockets)


async def application(scope: dict[str, Any], receive: object, send: object) -> None:
    del scope, receive, send


def make_config(**options: Any) -> uvicorn.Config:
    config = uvicorn.Config(application, http=HttpToolsProtocol, loop="uvloop", log_config=None, **options)
    config.load()
    return config


@pytest.mark.parametrize("name", ["startup", "capture_signals", "main_loop", "shutdown"])
def test_uvicorn_calls_what_we_override_and_ends_when_should_exit_is_set(name: str) -> None:
    server = Recorder(make_config(lifespan="off"))
    with socket.create_server(("127.0.0.1", 0)) as listener:
        asyncio.run(asyncio.wait_for(server.serve([listener]), DEADLINE_S))
        assert listener.fileno() == -1, "it was not closed"
    assert name in server.called
    assert name in vars(ApiServer)


def test_uvicorn_gives_the_loop_that_was_asked_for() -> None:
    factory = make_config().get_loop_factory()
    assert factory is not None
    loop = factory()
    assert isinstance(loop, uvloop.Loop)
    loop.close()


@pytest.fixture
def protocol() -> Iterator[HttpToolsProtocol]:
    """As uvicorn makes one for each connection."""
    loop = asyncio.new_event_loop()
    yield HttpToolsProtocol(make_config(), ServerState(), {}, loop)
    loop.close()


PROTOCOL = (
    "parser loop config server_state cycle pipeline flow transport headers expect_100_continue timeout_keep_alive "
    "timeout_keep_alive_task timeout_keep_alive_handler _unset_keepalive_if_required"
)


@pytest.mark.parametrize("name", PROTOCOL.split())
def test_uvicorns_protocol_has_the_attribute(protocol: HttpToolsProtocol, name: str) -> None:
    assert hasattr(protocol, name)


@pytest.mark.parametrize("name", ["write_paused", "pause_reading", "resume_reading"])
def test_its_flow_control_has_the_attribute(name: str) -> None:
    assert hasattr(FlowControl(asyncio.Transport()), name)


OVERRIDDEN = (
    "connection_made connection_lost data_received eof_received shutdown timeout_keep_alive_handler "
    "on_message_begin on_url on_header on_headers_complete on_body on_message_complete "
    "on_response_complete pause_writing resume_writing"
)


OURS = vars(PredictionProtocol) | vars(HttpConnection)


@pytest.mark.parametrize("name", OVERRIDDEN.split())
def test_our_protocol_overrides_a_method_that_uvicorn_has(name: str) -> None:
    assert name in vars(HttpToolsProtocol)
    assert name in OURS


def test_our_protocol_overrides_nothing_else_by_accident() -> None:
    ours = {name for name in OURS if not name.startswith("__")}
    assert ours & set(dir(HttpToolsProtocol)) == set(OVERRIDDEN.split())


def test_a_keep_alive_timer_is_cancelled_by_the_name_that_we_set(protocol: HttpToolsProtocol) -> None:
    timer = protocol.timeout_keep_alive_task = protocol.loop.call_later(1000, print)
    protocol._unset_keepalive_if_required()
    assert timer.cancelled()
    assert protocol.timeout_keep_alive_task is None


@pytest.mark.parametrize("name", ["response_complete", "keep_alive"])
def test_a_cycle_has_the_attribute(name: str) -> None:
    assert name in RequestResponseCycle.__init__.__code__.co_names


def test_status_lines_are_there() -> None:
    assert STATUS_LINE[422] == f"HTTP/1.1 422 {HTTPStatus(422).phrase}\r\n".encode()
    assert all(line.startswith(b"HTTP/1.1 ") for line in STATUS_LINE.values()), "what may be sent ahead"


def test_default_headers_are_pairs_of_bytes() -> None:
    assert ServerState().default_headers == []


def test_what_a_callback_raises_is_the_context_of_the_parsers_error() -> None:
    class Callbacks:
        def on_headers_complete(self) -> None:
            raise ZeroDivisionError

    with pytest.raises(httptools.HttpParserCallbackError) as error:
        httptools.HttpRequestParser(Callbacks()).feed_data(b"GET / HTTP/1.1\r\n\r\n")
    assert isinstance(error.value.__context__, ZeroDivisionError)


def test_an_upgrade_tells_where_the_rest_begins() -> None:
    """Our protocol parses the request once more from there."""
    head = b"POST / HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: h2c\r\nContent-Length: 4\r\n\r\n"
    parser = httptools.HttpRequestParser(object())
    with pytest.raises(httptools.HttpParserUpgrade) as upgrade:
        parser.feed_data(head + b"rest")
    assert (head + b"rest")[upgrade.value.args[0] :] == b"rest"
    assert (parser.should_upgrade(), parser.get_method()) == (True, b"POST")
