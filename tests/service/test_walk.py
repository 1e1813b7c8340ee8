"""The way of a warm digit: which files of the service it passes, from its bytes to its counted response, and where it
comes back to one that it had left."""

import asyncio
import os
import select
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import FrameType, SimpleNamespace

import numpy as np
import pytest
import uvicorn
from fastapi import FastAPI
from uvicorn.server import ServerState

import service
from service.catalog.repository import Repository
from service.config.settings import Settings
from service.http.hangup_watch import HangupWatch
from service.http.protocol import PredictionProtocol
from service.http.read_budget import ReadBudget
from service.ipc.channels import Channels
from service.ipc.control import Begin, ControlWriter, WorkerUp
from service.ipc.pipe import Pipe
from service.ipc.reports import WorkerReport
from service.metrics.metered_model import MeteredModel
from service.metrics.metrics import Metrics
from service.prediction import api_process
from service.prediction.api_process import ApiProcess
from service.routes.routes import ROUTES
from service.worker.warmup import LoadOptions
from service.worker.worker import Worker
from tests.artifacts import LABELS, SHAPE
from tests.service.pictures import png
from tests.service.wire import post

HOME = Path(service.__file__).parent
WAY = (
    "http/protocol.py",
    "http/read_budget.py",
    "parsing/head.py",
    "prediction/request.py",
    "prediction/response.py",
    "prediction/request_metrics.py",
    "batching/admission.py",
    "batching/wait_estimate.py",
    "batching/batcher.py",
    "ipc/slots.py",
    "batching/batch_policy.py",
    "ipc/messages.py",
    "worker/batch_runner.py",
    "batching/results.py",
    "batching/outbox.py",
)
# What is called of a file that had been passed before, as a callable that was handed on.
RETURNS_OF_ITS_BATCH = ("Batcher.dispatch", "Admission.release", "RequestMetrics.count_batch")
RETURNS = (
    "PredictionRequest._on_outcome",
    "PredictionRequest._write",
    "PredictionRequest._count",
    "PredictionProtocol._respond",
)


class Client(asyncio.Transport):
    """The other end of a connection, which keeps what is written."""

    def __init__(self) -> None:
        super().__init__({"peername": ("client", 1), "sockname": ("server", 2)})
        self.received: list[bytes] = []

    def write(self, data: bytes) -> None:  # type: ignore[override]
        self.received.append(data)

    def can_write_eof(self) -> bool:
        return True

    def is_closing(self) -> bool:
        return False

    def close(self) -> None:
        """As after `connection_lost`."""


class House:
    """An API process and a worker in this process, on real pipes and slots."""

    def __init__(self, repository: Path) -> None:
        catalog = Repository(repository).read("plain")
        (artifact,) = artifacts = [catalog.artifacts[catalog.default]]
        catalog = type(catalog)(tuple(artifacts), {}, 0)
        channels = Channels(1, 1, 8, int(np.prod(SHAPE)), len(LABELS))
        channels.shared_state.epochs[0] = 1
        self.worker = Worker(0, "cpu", artifacts, LoadOptions("auto", "auto", False, 1, {artifact.name: 4}), channels)
        self._requests = select.poll()
        self._requests.register(channels.requests[0].reader, select.POLLIN)
        (line,) = os.read(channels.reports[0].reader, 1 << 16).splitlines()
        settings = Settings(_cli_parse_args=False, decode_threads=1, decode_memory=1 << 26)  # type: ignore[call-arg]
        metrics = Metrics([MeteredModel.of(artifact, 1000)], ROUTES, workers=1, api_processes=1)
        control, app = Pipe(), FastAPI()
        app.state.api = ApiProcess(0, channels, control, catalog, metrics, settings, print, lambda: None, print)
        app.state.budget, app.state.hangups = ReadBudget(lambda: 0), HangupWatch()
        app.state.ports = SimpleNamespace(answers=lambda *_: True)
        ControlWriter(control).send(Begin())
        report = replace(WorkerReport.from_line(line).report, max_batch_size=4)
        ControlWriter(control).send(WorkerUp(0, 1, (report,)))
        config = uvicorn.Config(app, log_config=None)
        config.load()
        self.api, self.client = app.state.api, Client()
        self.protocol = PredictionProtocol(config=config, server_state=ServerState(), app_state={})
        self.protocol.connection_made(self.client)

    async def ask(self, message: bytes) -> bytes:
        """The response to one request."""
        self.protocol.data_received(message)
        await self.work_until(lambda: self.client.received)
        return self.client.received.pop()

    async def work_until(self, condition: Callable[[], object]) -> None:
        """Run what is sent to the worker until the condition holds."""
        while not condition():
            await asyncio.sleep(0)
            if self._requests.poll(0):
                self.worker.batches.serve_one()


@contextmanager
def profiled(on_call: Callable[[FrameType], None]) -> Iterator[None]:
    """Hear of each call of a function of the service."""

    def profile(frame: FrameType, event: str, _: object) -> None:
        if event == "call" and is_ours(frame):
            on_call(frame)

    sys.setprofile(profile)
    try:
        yield
    finally:
        sys.setprofile(None)


def is_ours(frame: FrameType) -> bool:
    return Path(frame.f_code.co_filename).is_relative_to(HOME)


def file_of(frame: FrameType) -> str:
    return Path(frame.f_code.co_filename).relative_to(HOME).as_posix()


def is_return(frame: FrameType) -> bool:
    """Whether a file further on the way called it without any import from its file: by a callable it was given."""
    caller = frame.f_back
    if caller is None or not is_ours(caller) or WAY.index(file_of(caller)) <= WAY.index(file_of(frame)):
        return False
    module = frame.f_globals["__name__"]
    return not any(getattr(value, "__module__", None) == module for value in caller.f_globals.values())


@pytest.mark.parametrize("how_often", [1, 3])
def test_a_warm_digit_passes_fifteen_files_and_returns_to_two(
    repository: Path, how_often: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(api_process, "BEAT_INTERVAL_S", 3600.0)  # no sign of life falls into the walk

    async def scene() -> None:
        house = House(repository)
        await house.work_until(lambda: house.api.ready)
        message = post(png())
        for _ in range(2):  # the first fills caches
            assert (await house.ask(message)).startswith(b"HTTP/1.1 200 ")
        calls: list[FrameType] = []
        with profiled(calls.append):
            for _ in range(how_often):
                assert (await house.ask(message)).startswith(b"HTTP/1.1 200 ")
        assert tuple(dict.fromkeys(map(file_of, calls))) == WAY
        returns = {call.f_code.co_qualname for call in calls if is_return(call)}
        assert returns == {*RETURNS, *RETURNS_OF_ITS_BATCH}
        house.protocol.connection_lost(None)
        house.api.close()

    asyncio.run(asyncio.wait_for(scene(), 60))
