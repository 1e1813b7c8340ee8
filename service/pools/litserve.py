"""All that is LitServe's own, and how it makes the processes; `http/server` and `http/protocol` hold what is uvicorn's.

LitServe gives the application, the placement on devices and what runs in a worker process (`inference_worker`, with its
`LitAPI` and `LitLoop`). Processes are forked, so that what they have in common is imported once; the first one has no
second thread, nor ONNX Runtime or CUDA, which bear no fork. How processes are watched and ended is `process_pool`'s.
Requests never pass through LitServe's queues, and its Manager process is never started.
"""

import asyncio
import contextlib
import gc
import os
import sys
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import replace
from multiprocessing import get_context
from multiprocessing.process import BaseProcess
from typing import NoReturn

import structlog
import uvicorn
from fastapi import FastAPI
from litserve import LitAPI, LitServer
from litserve.loops import LitLoop, inference_worker

from service.auth.guard import Guard
from service.auth.tls import ServerTls
from service.catalog.catalog import Catalog
from service.config.settings import Settings
from service.http.hangup_watch import HangupWatch
from service.http.ports import Ports
from service.http.read_budget import ReadBudget
from service.http.server import ApiServer
from service.ipc.channels import Channels
from service.ipc.control import CUT_SHORT
from service.ipc.pipe import Pipe
from service.ipc.shared_memory import close_inherited
from service.metrics.metrics import Metrics
from service.policy import COLLECTED_OBJECTS
from service.pools.model_set import ModelSet
from service.pools.placement import Placement
from service.pools.signals import ignore_stops, stops_wait
from service.prediction.api_process import ApiProcess
from service.process.logs import log_crash
from service.process.parent_death import die_with_parent
from service.process.process_name import name_process
from service.process.shortage import in_words
from service.process.side_process import no_leak
from service.routes.admin_routes import add_admin_routes
from service.routes.routes import add_routes
from service.worker.warmup import LoadOptions
from service.worker.worker import Worker

log = structlog.get_logger()


def _end_failed(event: str, error: Exception, **process: int) -> NoReturn:
    """End this process, which the error keeps from its work."""
    try:
        log.error(event, **process, why=in_words(error), exc_info=error)
    finally:  # there may be no memory even for that
        sys.exit(1)


class InferenceLoop(LitLoop):  # type: ignore[misc]
    """LitServe calls `run` again whenever it returns or fails."""

    def run(self, lit_api: "InferenceAPI", *_: object) -> None:
        """Answer batches until the process is ended; a worker that fails ends, and its batch is run by another."""
        try:
            lit_api.worker.batches.serve()
        except Exception:
            log.exception("worker failed", worker=lit_api.worker.number)
        finally:
            os._exit(1)  # LitServe would have it run again


class InferenceAPI(LitAPI):  # type: ignore[misc]
    """What LitServe sets up in each worker process."""

    worker: Worker

    def __init__(self, load: LoadOptions, channels: Channels) -> None:
        super().__init__(loop=InferenceLoop())
        self._load, self._channels = load, channels

    def take(self, models: ModelSet, wanted: frozenset[int] | None, max_batch_sizes: Mapping[str, int]) -> None:
        """Have the next worker load these models, those that are wanted, or all."""
        self._files, self._first, self._wanted = models.files, models.catalog.first, wanted
        self._load = replace(self._load, max_batch_sizes=max_batch_sizes, choices=models.choices)

    def setup(self, device: str) -> None:
        """Load and prove the models; runs in the worker, and ends it where that fails."""
        files, seat = self._files, int(os.environ["LITSERVE_WORKER_ID"])
        try:
            self.worker = Worker(seat, device, files, self._load, self._channels, self._first, self._wanted)
        except Exception as error:
            _end_failed("worker failed", error, worker=self._channels.worker_of(seat))
        if self._wanted is None:
            files.close()


class LitServeLauncher(LitServer):  # type: ignore[misc]
    """LitServe's server with the parts replaced that requests and faults pass through; launches the processes."""

    def __init__(
        self,
        settings: Settings,
        channels: Channels,
        metrics: Metrics,
        placement: Placement,
        guard: Guard | None,
        tls: ServerTls | None,
    ) -> None:
        self._guard, self._tls = guard, tls
        self._settings, self._channels, self._metrics = settings, channels, metrics
        super().__init__(
            InferenceAPI(placement.load, channels),
            accelerator=placement.accelerator,
            devices=placement.devices,
            timeout=False,
        )
        self.ports = Ports(settings)

    def register_endpoints(self) -> None:
        """Our routes instead of LitServe's `/`, `/health`, `/info` and `/predict`."""
        self.app.title, self.app.root_path = "resnet-serve", self._settings.root_path
        docs, origins = self._settings.docs, self._settings.cors_origins
        add_routes(self.app, lambda: self.app.state.api, docs=docs, origins=origins)
        if self._settings.admin_api:
            add_admin_routes(self.app, lambda: self.app.state.api)

    def _register_middleware(self) -> None:
        """Without LitServe's gzip: answers are small, and compressing costs more than it saves."""

    @contextlib.asynccontextmanager
    async def lifespan(self, app: FastAPI) -> AsyncIterator[None]:
        """Between the first and the last request of an API process; LitServe's would read its response queue."""
        del app
        yield

    @property
    def urls(self) -> dict[str, str]:
        """Where it listens, by what is answered there."""
        return self.ports.urls("https" if self._tls else "http")

    def launch_worker(self, seat: int, models: ModelSet, wanted: frozenset[int] | None) -> BaseProcess:
        """Fork a worker."""
        return self._fork(f"worker-{self._channels.worker_of(seat)}", self._run_worker, seat, models, wanted)

    def launch_api(self, index: int, control: Pipe, models: ModelSet) -> BaseProcess:
        """Fork an API process."""
        return self._fork(f"api-{index}", self._run_api, index, control, models.catalog)

    def _fork(self, name: str, run: Callable[..., None], *args: object) -> BaseProcess:
        process = get_context("fork").Process(target=self._run, args=(os.getpid(), name, run, *args))
        with stops_wait(), no_leak():
            process.start()
        return process

    def close_listener(self) -> None:
        """Close this process's copies of the listening sockets."""
        self.ports.close()

    @log_crash
    def _run(self, parent_pid: int, name: str, run: Callable[..., None], *args: object) -> None:
        """The whole life of a process that was forked."""
        ignore_stops()
        die_with_parent(parent_pid)
        name_process(name)
        gc.freeze()  # what the fork brought along stays: neither scanned again nor copied
        run(*args)

    def _run_worker(self, seat: int, models: ModelSet, wanted: frozenset[int] | None) -> None:
        self.close_listener()
        close_inherited(keep=models.files)
        names = {artifact.name for artifact in models.catalog.artifacts}
        self.lit_api.take(models, wanted, {name: self._settings.max_batch_size_of(name) for name in names})
        device = self.devices[seat % len(self.devices)]  # of GPUs each is a list of one
        device = device if isinstance(device, str) else device[0]
        # Without LitServe's queues and its record of who is ready.
        inference_worker(self.lit_api, device, seat, None, None, {}, self._callback_runner, restart_workers=False)

    def _run_api(self, index: int, control: Pipe, catalog: Catalog) -> None:
        gc.set_threshold(COLLECTED_OBJECTS)
        close_inherited()
        config = self._uvicorn_config()
        try:
            with asyncio.Runner(loop_factory=config.get_loop_factory()) as runner:
                counts = self._channels.shared_state.connections
                server = ApiServer(config, self.ports, self._tls, self._settings.header_timeout, counts, index)
                refused = runner.run(self._serve(index, control, catalog, server))
        except Exception as error:
            _end_failed("API process failed", error, index=index)
        if refused:
            sys.exit(CUT_SHORT)

    def _uvicorn_config(self) -> uvicorn.Config:
        return uvicorn.Config(
            self.app,
            loop="uvloop",
            ws="none",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,  # a limit is of the address that asks: what a header says of it, anyone can write
            headers=[("x-content-type-options", "nosniff")],
            timeout_keep_alive=self._settings.keep_alive_timeout,  # type: ignore[arg-type]
            timeout_graceful_shutdown=self._settings.grace,  # type: ignore[arg-type]
        )

    async def _serve(self, index: int, control: Pipe, catalog: Catalog, server: ApiServer) -> int:
        """Serve until the drain ends; how many requests had to be refused then."""
        self.app.state.ports, self.app.state.hangups = self.ports, HangupWatch()
        api = self.app.state.api = ApiProcess(
            index,
            self._channels,
            control,
            catalog,
            self._metrics,
            self._settings,
            server.listen,
            server.stop,
            server.refuse_all,
            self._guard,
            self._tls,
        )
        self.app.state.budget = ReadBudget(lambda: api.services.admission.late)
        await server.serve(self.ports.sockets)
        api.close()
        return api.shutdown.refused
