"""Starts the worker and API processes, watches them, replaces those that die or hang, and ends them all.

The supervisor has one thread, which waits for what happens: a signal, a report, the end of a process, a due time. It
knows nothing of LitServe or uvicorn: a `Launcher` makes the processes.
"""

import math
import os
import selectors
import signal
import socket
import time
from collections.abc import Callable
from functools import partial
from multiprocessing.process import BaseProcess
from typing import Protocol

import structlog

from models.machine.cgroup import count_oom_kills
from service.ipc.channels import Channels
from service.ipc.control import Begin, ControlMessage, Drain, WorkerDown, WorkerUp, send
from service.ipc.pipe import Pipe
from service.ipc.reports import ModelReport, WorkerReport
from service.metrics.metrics import Metrics
from service.policy import FIRST_STARTS, WATCH_INTERVAL_S
from service.repository import Catalog
from service.settings import Settings
from service.supervisor.children import ApiChild, Child, WorkerChild

log = structlog.get_logger()

KILL_MARGIN_S = 0.5  # part of the grace period that is kept for killing processes that do not end by themselves


class Launcher(Protocol):
    """Makes the processes."""

    def launch_worker(self, index: int) -> BaseProcess:
        """Start the worker of this number."""
        ...

    def launch_api(self, index: int, control: Pipe) -> BaseProcess:
        """Start an API process that listens to this pipe."""
        ...

    def close_listener(self) -> None:
        """Close this process's copy of the listening socket."""
        ...


class Supervisor:
    """Runs the server from its first process to its last."""

    def __init__(
        self, launcher: Launcher, channels: Channels, catalog: Catalog, metrics: Metrics, settings: Settings
    ) -> None:
        self._launcher, self._channels, self._catalog = launcher, channels, catalog
        self._metrics, self._settings = metrics, settings
        self._workers = [WorkerChild(i) for i in range(channels.shared_state.workers)]
        self._apis = [ApiChild(i) for i in range(channels.shared_state.api_processes)]
        self._selector = selectors.DefaultSelector()
        self._exit_code = 0
        self._signals = 0
        self._ends_at_s = math.inf  # when draining: the latest end
        self._workers_told = False
        self._oom_kills = count_oom_kills()

    def run(self) -> int:
        """Serve until a signal comes or the server gives up; the process's exit code."""
        self._watch_signals()
        for worker in self._workers:
            self._watch(self._channels.reports[worker.index].reader, partial(self._read_reports, worker))
            self._start_worker(worker)
        for api in self._apis:
            self._start_api(api)
        while self._alive():
            for key, _ in self._selector.select(self._patience_s()):
                key.data()
            self._do_what_is_due()
        return self._exit_code

    def _alive(self) -> bool:
        return not self._draining or any(child.process for child in (*self._workers, *self._apis))

    @property
    def _draining(self) -> bool:
        return self._ends_at_s < math.inf

    def _patience_s(self) -> float:
        due = min(child.restart_at_s for child in (*self._workers, *self._apis))
        return max(0.0, min(due - time.monotonic(), WATCH_INTERVAL_S))

    def _watch(self, fd: int, callback: Callable[[], object]) -> None:
        os.set_blocking(fd, False)
        self._selector.register(fd, selectors.EVENT_READ, callback)

    def _do_what_is_due(self) -> None:
        now = time.monotonic()
        if self._draining:
            self._end_what_is_left(now)
            return
        for api in self._apis:
            if now >= api.restart_at_s:
                self._start_api(api)
        for worker in self._workers:
            if now >= worker.restart_at_s:
                self._start_worker(worker)
            elif worker.process:
                self._look_for_hang(worker, now)

    # Signals

    def _watch_signals(self) -> None:
        """Handle signals in the loop, in their order: a handler of Python's would run between any two instructions."""
        reader, writer = socket.socketpair()
        writer.setblocking(False)
        signal.set_wakeup_fd(writer.fileno(), warn_on_full_buffer=False)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: None)  # without a handler the number is not written to the descriptor
        self._wakeup = reader, writer
        self._watch(reader.fileno(), partial(self._read_signals, reader))

    def _read_signals(self, reader: socket.socket) -> None:
        for number in reader.recv(64):
            self._on_signal(number)

    def _on_signal(self, number: int) -> None:
        self._signals += 1
        if self._signals == 1:
            log.info("stopping", signal=signal.Signals(number).name)
            self._drain(self._settings.drain_delay)
        elif self._signals == 2:
            log.warning("stopping at once", signal=signal.Signals(number).name)
            self._ends_at_s = time.monotonic()

    # Workers

    def _start_worker(self, worker: WorkerChild) -> None:
        worker.begin_life(time.monotonic())
        self._channels.requests[worker.index].drain()
        shared_state = self._channels.shared_state
        shared_state.began_ns[worker.index], shared_state.epochs[worker.index] = 0, worker.epoch
        worker.process = self._launcher.launch_worker(worker.index)
        self._watch(worker.process.sentinel, partial(self._on_worker_end, worker))
        log.info("worker started", worker=worker.index, pid=worker.process.pid)

    def _read_reports(self, worker: WorkerChild) -> None:
        data = worker.unparsed + os.read(self._channels.reports[worker.index].reader, 1 << 16)
        *lines, worker.unparsed = data.split(b"\n")
        for line in lines:
            sent = WorkerReport.from_line(line)
            if sent.epoch == worker.epoch:
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
                self._give_up("the default model cannot be served")
        if len(worker.reports) == len(self._catalog.artifacts) and not self._draining:
            self._on_worker_up(worker)

    def _on_worker_up(self, worker: WorkerChild) -> None:
        worker.up = worker.ever_up = True
        self._metrics.worker_up.set(1, str(worker.index))
        self._tell_all(_worker_up(worker))
        log.info("worker up", worker=worker.index, seconds=round(time.monotonic() - worker.born_s, 3))

    def _on_worker_end(self, worker: WorkerChild) -> None:
        code = self._bury(worker)
        was_up, worker.up = worker.up, False
        self._metrics.worker_up.set(0, str(worker.index))
        if was_up:
            self._tell_all(WorkerDown(worker.index))
        if self._draining:
            return
        reason = worker.killed_as or ("oom" if self._was_killed_for_memory(code) else "exit")
        log.error("worker died", worker=worker.index, exit_code=code, reason=reason)
        self._metrics.worker_restarts.inc(reason)
        worker.plan_restart(time.monotonic())
        if worker.deaths >= FIRST_STARTS and not any(other.ever_up for other in self._workers):
            self._give_up("the workers die before they are ready; see the errors above")

    def _was_killed_for_memory(self, code: int | None) -> bool:
        before, self._oom_kills = self._oom_kills, count_oom_kills()
        return code == -signal.SIGKILL and self._oom_kills > before

    def _look_for_hang(self, worker: WorkerChild, now: float) -> None:
        if not worker.up:
            if now - worker.born_s > self._settings.start_timeout:
                self._kill_hung(worker, "it did not load its models in time")
        elif self._channels.shared_state.is_hung(worker.index, time.monotonic_ns()):
            self._kill_hung(worker, "its batch takes far longer than at warm-up")
        elif worker.leaves_unread(self._channels, now):
            self._kill_hung(worker, "it does not read its next batch")

    def _kill_hung(self, worker: WorkerChild, why: str) -> None:
        if worker.process and not worker.killed_as:
            log.error("worker hangs", worker=worker.index, pid=worker.process.pid, why=why)
            worker.killed_as = "hang"
            worker.process.kill()

    # API processes

    def _start_api(self, api: ApiChild) -> None:
        api.restart_at_s = math.inf
        api.born_s = time.monotonic()
        api.control = Pipe()
        api.process = self._launcher.launch_api(api.index, api.control)
        self._watch(api.process.sentinel, partial(self._on_api_end, api))
        log.info("API process started", index=api.index, pid=api.process.pid)
        for worker in self._workers:
            if worker.up:
                send(api.control, _worker_up(worker))
        send(api.control, Begin())

    def _on_api_end(self, api: ApiChild) -> None:
        code = self._bury(api)
        if api.control:
            api.control.close()
            api.control = None
        if not self._draining:
            log.error("API process died", index=api.index, exit_code=code)
            api.plan_restart(time.monotonic())

    def _tell_all(self, message: ControlMessage) -> None:
        for api in self._apis:
            if api.control:
                send(api.control, message)

    def _bury(self, child: Child) -> int | None:
        """Take leave of a process that has ended; its exit code."""
        process = child.process
        assert process is not None
        self._selector.unregister(process.sentinel)
        process.join()
        code = process.exitcode
        process.close()
        child.process = None
        return code

    # The end

    def _give_up(self, why: str) -> None:
        if not self._draining:
            log.critical("giving up", why=why)
            self._exit_code = 1
            self._drain(0.0)

    def _drain(self, delay_s: float) -> None:
        """API processes answer what they have accepted and end; then the workers are ended."""
        self._ends_at_s = time.monotonic() + self._settings.grace
        self._launcher.close_listener()
        self._tell_all(Drain(delay_s, self._settings.grace - 2 * KILL_MARGIN_S))

    def _end_what_is_left(self, now: float) -> None:
        if not any(api.process for api in self._apis) and not self._workers_told:
            self._workers_told = True
            for worker in self._workers:
                if worker.process:
                    worker.process.terminate()
        if now > self._ends_at_s - KILL_MARGIN_S:
            for child in (*self._workers, *self._apis):
                if child.process:
                    child.process.kill()


def _worker_up(worker: WorkerChild) -> WorkerUp:
    return WorkerUp(worker.index, worker.epoch, tuple(worker.reports.values()))
