"""The API processes: started, watched, replaced, told."""

from collections.abc import Callable
from functools import partial
from multiprocessing.process import BaseProcess

import structlog

from service.ipc.control import (
    CUT_SHORT,
    AskForChange,
    AskForModel,
    Begin,
    ChangeEnded,
    ControlMessage,
    ControlReader,
    ControlWriter,
    ModelChange,
    ModelReleased,
    ModelsTaken,
)
from service.pools.children import ApiChild
from service.pools.process_pool import PoolContext, ProcessPool
from service.pools.worker_pool import WorkerPool

log = structlog.get_logger()

Answer = Callable[[str, bool], None]
"""Called with why a change was refused, empty if it was not, and whether any model is another now."""


class ApiPool(ProcessPool[ApiChild]):
    """The API processes; what they ask for goes to `ask`.

    Attributes:
        lost: requests that got no answer because their process did not live to the end of the drain.
        failed: whether a process did not, or could not answer all that it held.

    """

    noun, key = "API process", "index"

    def __init__(
        self, context: PoolContext, workers: Callable[[], WorkerPool], ask: Callable[[ModelChange, Answer], None]
    ) -> None:
        channels = context.channels
        super().__init__([ApiChild(index) for index in range(channels.shared_state.api_processes)], context)
        self._beats, self._reports = channels.shared_state.beats, channels.api_reports
        self._workers, self._ask = workers, ask
        self.lost = 0
        self.failed = False
        for api in self.children:
            self._reactor.watch(self._reports[api.index].reader, partial(self._read_reports, api))

    def tell(self, message: ControlMessage) -> int:
        """Send this to every process; how many there are."""
        writers = [api.writer for api in self.children if api.process and api.writer]
        for writer in writers:
            writer.send(message)
        return len(writers)

    def look(self, now_s: float) -> None:
        """Start those whose time has come, kill those that hang, and send on what did not fit into a pipe."""
        self.start_due(now_s)
        for api in self.children:
            if api.process and api.control and api.writer and api.writer.flush():
                self._reactor.await_room(api.control.writer)
            if api.process and api.is_silent(self._beats[api.index], now_s):
                self._kill_hung(api, "its event loop stands still")

    def _launch(self, child: ApiChild) -> BaseProcess:
        child.close_control()
        self._reports[child.index].drain()
        child.reports = ControlReader(self._reports[child.index], partial(self._on_report, child))
        self._forget_answers()
        control, workers = child.open_control(), self._workers()
        assert child.writer is not None
        for worker in workers.ups():
            child.writer.send(worker)
        child.writer.send(Begin(workers.models.number))
        return self._launcher.launch_api(child.index, control, workers.models)  # last: what fails leaves no process

    def _forget_answers(self) -> None:
        """One of the processes that were asked something is another now."""
        if budget := self._workers().budget:
            budget.cancel_release()

    def _read_reports(self, child: ApiChild) -> None:
        if child.reports:
            child.reports.read()

    def _on_report(self, child: ApiChild, message: ControlMessage) -> None:
        budget = self._workers().budget
        match message:
            case ModelsTaken(models, released):
                child.taken = models
                child.released = models if released else child.released
            case AskForModel(model) if budget:
                budget.ask(model)
            case ModelReleased(number, released) if budget:
                budget.on_released(number, released=released)
            case AskForChange(number, change):
                self._ask(change, partial(self._answer, child, child.writer, number))

    def _answer(self, child: ApiChild, writer: ControlWriter | None, number: int, refused: str, changed: bool) -> None:
        """Tell what became of a change, unless the process that asked is gone."""
        if writer and child.writer is writer:
            writer.send(ChangeEnded(number, refused, changed))

    def _on_end(self, child: ApiChild) -> None:
        code = self._reap(child)
        reason = self._reason(child, code)
        child.close_control()
        self._channels.shared_state.end_life(child.index)
        self._forget_answers()
        lost = self._metrics.lose(child.index)
        if self._closing:
            self.lost += lost
            self.failed |= code != 0
        if self._closing and code in (0, CUT_SHORT):
            return
        log.error("API process died", index=child.index, exit_code=code, reason=reason, requests_lost=lost)
        if not self._closing:
            self._metrics.api_restarts.inc(reason)
            self._plan_restart(child)
