"""Starts the worker and API processes, watches them, replaces those that die or hang, and ends them all.

The supervisor has one thread, which waits for what happens: a signal, a report, the end of a process, a due time. It
knows nothing of LitServe or uvicorn: a `Launcher` makes the processes.
"""

import json
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
from service.ipc.control import Begin, Drain, Message, SeatDown, SeatUp, send
from service.ipc.reports import ModelReport
from service.ipc.transport import Channels, Pipe
from service.metrics.metrics import Metrics
from service.repository import Catalog
from service.settings import Settings
from service.supervisor.children import ApiPlace, Child, Seat

log = structlog.get_logger()

WATCH_INTERVAL_S = 0.25  # how often a hang is looked for
FIRST_STARTS = 3  # a worker that never came up is tried this often before the server gives up
KILL_MARGIN_S = 0.5  # of the grace period, kept for killing what does not end by itself


class Launcher(Protocol):
    """Makes the processes."""

    def launch_worker(self, seat: int) -> BaseProcess:
        """Start the worker of this seat."""
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
        self._seats = [Seat(i) for i in range(channels.board.seats)]
        self._apis = [ApiPlace(i) for i in range(channels.board.api_processes)]
        self._selector = selectors.DefaultSelector()
        self._exit_code = 0
        self._signals = 0
        self._ends_at_s = math.inf  # when draining: the latest end
        self._workers_told = False
        self._oom_kills = count_oom_kills()

    def run(self) -> int:
        """Serve until told to stop or beyond help; the process's exit code."""
        self._watch_signals()
        for seat in self._seats:
            self._watch(self._channels.reports[seat.index].reader, partial(self._read_reports, seat))
            self._start_worker(seat)
        for api in self._apis:
            self._start_api(api)
        while self._alive():
            for key, _ in self._selector.select(self._patience_s()):
                key.data()
            self._do_what_is_due()
        return self._exit_code

    def _alive(self) -> bool:
        return not self._draining or any(child.process for child in (*self._seats, *self._apis))

    @property
    def _draining(self) -> bool:
        return self._ends_at_s < math.inf

    def _patience_s(self) -> float:
        due = min(child.restart_at_s for child in (*self._seats, *self._apis))
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
        for seat in self._seats:
            if now >= seat.restart_at_s:
                self._start_worker(seat)
            elif seat.process:
                self._look_for_hang(seat, now)

    # Signals

    def _watch_signals(self) -> None:
        """Signals are taken up in the loop, in their order: a handler would run in the middle of anything."""
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

    def _start_worker(self, seat: Seat) -> None:
        seat.restart_at_s = math.inf
        seat.epoch += 1
        seat.reports, seat.unparsed, seat.killed_as, seat.unread_since_s = {}, b"", None, None
        self._channels.requests[seat.index].drain()
        board = self._channels.board
        board.began_ns[seat.index], board.epochs[seat.index] = 0, seat.epoch
        seat.born_s = time.monotonic()
        seat.process = self._launcher.launch_worker(seat.index)
        self._watch(seat.process.sentinel, partial(self._on_worker_end, seat))
        log.info("worker started", worker=seat.index, pid=seat.process.pid)

    def _read_reports(self, seat: Seat) -> None:
        *lines, seat.unparsed = (seat.unparsed + os.read(self._channels.reports[seat.index].reader, 1 << 16)).split(
            b"\n"
        )
        for line in lines:
            fields = json.loads(line)
            if fields.pop("epoch") == seat.epoch:
                self._on_report(seat, ModelReport(**fields))

    def _on_report(self, seat: Seat, report: ModelReport) -> None:
        seat.reports[report.model] = report
        artifact = self._catalog.artifacts[report.model]
        about = {"model": artifact.name, "version": artifact.version, "worker": seat.index}
        if report.state == "ready":
            log.info("model ready", **about, engine=report.engine, device=report.device, seconds=report.load_seconds)
            self._metrics.model_load_seconds.set(report.load_seconds, artifact.name)
        else:
            log.error("model failed", **about, reason=report.reason)
            if report.model == self._catalog.default:
                self._give_up("the default model cannot be served")
        if len(seat.reports) == len(self._catalog.artifacts) and not self._draining:
            self._on_worker_up(seat)

    def _on_worker_up(self, seat: Seat) -> None:
        seat.up = seat.ever_up = True
        self._metrics.worker_up.set(1, str(seat.index))
        self._tell_all(self._seat_up(seat))
        log.info("worker up", worker=seat.index, seconds=round(time.monotonic() - seat.born_s, 3))

    def _seat_up(self, seat: Seat) -> SeatUp:
        return SeatUp(seat.index, seat.epoch, tuple(seat.reports.values()))

    def _on_worker_end(self, seat: Seat) -> None:
        code = self._bury(seat)
        was_up, seat.up = seat.up, False
        self._metrics.worker_up.set(0, str(seat.index))
        if was_up:
            self._tell_all(SeatDown(seat.index))
        if self._draining:
            return
        reason = seat.killed_as or ("oom" if self._was_killed_for_memory(code) else "exit")
        log.error("worker died", worker=seat.index, exit_code=code, reason=reason)
        self._metrics.worker_restarts.inc(reason)
        seat.plan_restart(time.monotonic())
        if seat.deaths >= FIRST_STARTS and not any(other.ever_up for other in self._seats):
            self._give_up("the workers die before they are ready; the log above tells why")

    def _was_killed_for_memory(self, code: int | None) -> bool:
        before, self._oom_kills = self._oom_kills, count_oom_kills()
        return code == -signal.SIGKILL and self._oom_kills > before

    def _look_for_hang(self, seat: Seat, now: float) -> None:
        if not seat.up:
            if now - seat.born_s > self._settings.start_timeout:
                self._kill_hung(seat, "it did not load its models in time")
        elif self._channels.board.hung(seat.index, time.monotonic_ns()):
            self._kill_hung(seat, "its batch takes far longer than at warm-up")
        elif seat.leaves_unread(self._channels, now):
            self._kill_hung(seat, "it does not take up its next batch")

    def _kill_hung(self, seat: Seat, why: str) -> None:
        if seat.process and not seat.killed_as:
            log.error("worker hangs", worker=seat.index, pid=seat.process.pid, why=why)
            seat.killed_as = "hang"
            seat.process.kill()

    # API processes

    def _start_api(self, api: ApiPlace) -> None:
        api.restart_at_s = math.inf
        api.born_s = time.monotonic()
        api.control = Pipe()
        api.process = self._launcher.launch_api(api.index, api.control)
        self._watch(api.process.sentinel, partial(self._on_api_end, api))
        for seat in self._seats:
            if seat.up:
                send(api.control, self._seat_up(seat))
        send(api.control, Begin())

    def _on_api_end(self, api: ApiPlace) -> None:
        code = self._bury(api)
        if api.control:
            api.control.close()
            api.control = None
        if not self._draining:
            log.error("API process died", index=api.index, exit_code=code)
            api.plan_restart(time.monotonic())

    def _tell_all(self, message: Message) -> None:
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
            for seat in self._seats:
                if seat.process:
                    seat.process.terminate()
        if now > self._ends_at_s - KILL_MARGIN_S:
            for child in (*self._seats, *self._apis):
                if child.process:
                    child.process.kill()
