"""The workers: started, heard, watched, replaced."""

import os
import time
from collections.abc import Callable, Iterator
from functools import partial
from multiprocessing.process import BaseProcess

import structlog

from service.ipc.channels import Channels
from service.ipc.control import ControlMessage, WorkerDown, WorkerUp
from service.ipc.reports import ModelReport, WorkerReport
from service.metrics.metrics import Metrics
from service.repository import Catalog
from service.supervisor.children import WorkerChild
from service.supervisor.launcher import Launcher
from service.supervisor.process_pool import OomKills, ProcessPool
from service.supervisor.reactor import Reactor

log = structlog.get_logger()


class WorkerPool(ProcessPool[WorkerChild]):
    """The workers. `tell` reaches the API processes, `give_up` hears why the server cannot go on."""

    noun = key = "worker"

    def __init__(
        self,
        launcher: Launcher,
        channels: Channels,
        catalog: Catalog,
        metrics: Metrics,
        start_timeout_s: float,
        reactor: Reactor,
        oom_kills: OomKills,
        tell: Callable[[ControlMessage], None],
        give_up: Callable[[str], None],
    ) -> None:
        workers = [WorkerChild(index) for index in range(channels.shared_state.workers)]
        super().__init__(workers, reactor, oom_kills, give_up)
        self._launcher, self._channels, self._catalog, self._metrics = launcher, channels, catalog, metrics
        self._start_timeout_s, self._tell = start_timeout_s, tell
        for worker in workers:
            reactor.watch(channels.reports[worker.index].reader, partial(self._read_reports, worker))

    def ups(self) -> Iterator[WorkerUp]:
        """What an API process must know that has just started."""
        return (_worker_up(worker) for worker in self.children if worker.up)

    def look(self, now_s: float) -> None:
        """Start those whose time has come, and kill those that hang."""
        self.start_due(now_s)
        for worker in self.children:
            if worker.process:
                self._look_for_hang(worker, now_s)

    def _launch(self, child: WorkerChild) -> BaseProcess:
        for pipe in (self._channels.requests[child.index], self._channels.reports[child.index]):
            pipe.drain()
        shared_state = self._channels.shared_state
        shared_state.began_ns[child.index], shared_state.epochs[child.index] = 0, child.epoch
        return self._launcher.launch_worker(child.index)

    # Reports

    def _read_reports(self, worker: WorkerChild) -> None:
        try:
            data = os.read(self._channels.reports[worker.index].reader, 1 << 16)
        except BlockingIOError:  # it was of a former life, and is gone
            return
        *lines, worker.unparsed = (worker.unparsed + data).split(b"\n")
        for line in lines:
            sent = WorkerReport.from_line(line)
            if sent.epoch == worker.epoch and not worker.killed_as:
                self._on_report(worker, sent.report)

    def _on_report(self, worker: WorkerChild, report: ModelReport) -> None:
        worker.reports[report.model] = report
        artifact = self._catalog.artifacts[report.model]
        about = {"model": artifact.name, "version": artifact.version, "worker": worker.index}
        if report.state == "ready":
            log.info("model ready", **about, engine=report.engine, device=report.device, seconds=report.load_seconds)
            self._metrics.model_load_seconds.set(report.load_seconds, artifact.name)
        else:
            log.error("model failed", **about, reason=report.reason)
        if report.model == self._catalog.default:
            worker.lacks_default = report.state == "failed"
        if len(worker.reports) == len(self._catalog.artifacts):
            self._on_loaded(worker)

    def _on_loaded(self, worker: WorkerChild) -> None:
        """All models are loaded or have failed: take the worker, unless it lacks the one that matters most."""
        if not worker.lacks_default:
            self._on_worker_up(worker)
        elif all(other.lacks_default for other in self.children):
            self._give_up("the default model cannot be served")
        else:
            self._start_over(worker)

    def _start_over(self, worker: WorkerChild) -> None:
        log.error("worker starts over", worker=worker.index, why="it could not load the default model")
        worker.killed_as = "exit"
        if worker.process:
            worker.process.kill()

    def _on_worker_up(self, worker: WorkerChild) -> None:
        worker.up = worker.ever_up = True
        worker.start_s = time.monotonic() - worker.born_s
        self._metrics.worker_up.set(1, str(worker.index))
        self._tell(_worker_up(worker))
        log.info("worker up", worker=worker.index, seconds=round(worker.start_s, 3))

    # Ends

    def _on_end(self, child: WorkerChild) -> None:
        code = self._reap(child)
        reason = self._reason(child, code)
        was_up, child.up = child.up, False
        self._metrics.worker_up.set(0, str(child.index))
        if was_up:
            self._tell(WorkerDown(child.index, reason))
        if not self._closing:
            log.error("worker died", worker=child.index, exit_code=code, reason=reason)
            self._metrics.worker_restarts.inc(reason)
            self._plan_restart(child)

    def _look_for_hang(self, worker: WorkerChild, now_s: float) -> None:
        if not worker.up:
            if now_s - worker.born_s > self._start_timeout_s:
                self._kill_hung(worker, "it did not load its models in time")
        elif self._channels.shared_state.is_hung(worker.index, time.monotonic_ns()):
            self._kill_hung(worker, "its batch takes far longer than at warm-up")
        elif worker.leaves_unread(self._channels, now_s):
            self._kill_hung(worker, "it does not read its next batch")


def _worker_up(worker: WorkerChild) -> WorkerUp:
    return WorkerUp(worker.index, worker.epoch, tuple(worker.reports.values()), worker.start_s)
