"""The workers: started, heard, watched, replaced."""

import math
import os
import time
from collections.abc import Callable, Iterator
from functools import partial
from multiprocessing.process import BaseProcess
from typing import NamedTuple

import structlog

from service.catalog.catalog import Catalog
from service.ipc.control import ControlMessage, WorkerDown, WorkerUp
from service.ipc.reports import ModelReport, WorkerReport
from service.policy import FIRST_STARTS
from service.pools.children import WorkerChild
from service.pools.countdown import Countdown
from service.pools.model_budget import ModelBudget
from service.pools.model_set import ModelSet
from service.pools.process_pool import PoolContext, ProcessPool

log = structlog.get_logger()


class Trial(NamedTuple):
    """Models that workers in spare seats load, and what is called once they have, or die again and again.

    `on_loaded` gets the reason of each model that failed, by its number.
    """

    models: ModelSet
    on_loaded: Callable[[dict[int, str]], None]
    on_lost: Callable[[str], None]


class WorkerPool(ProcessPool[WorkerChild]):
    """The workers: those whose models are served, and in spare seats those that are to be, or have been.

    `tell` reaches the API processes; `memory_budget` is in bytes, 0 if all models are to be loaded.

    Attributes:
        models: what is served.
        trial: what is to be served.
        budget: what decides which of the models that are served are loaded; None if all are.

    """

    noun = key = "worker"

    def __init__(
        self,
        context: PoolContext,
        models: ModelSet,
        start_timeout_s: float,
        tell: Callable[[ControlMessage], int],
        memory_budget: int,
    ) -> None:
        channels = context.channels
        workers = [WorkerChild(index) for index in range(channels.shared_state.seats)]
        super().__init__(workers, context)
        self._start_timeout_s, self._tell = start_timeout_s, tell
        self.models = models
        self.trial: Trial | None = None
        self.deaths = 0
        """How many workers have died whose models were served."""
        self.budget = (
            ModelBudget(memory_budget, models, channels, context.metrics, start_timeout_s, tell, self._serving)
            if memory_budget
            else None
        )
        for worker in workers:
            self._reactor.watch(channels.reports[worker.index].reader, partial(self._read_reports, worker))

    # Sets of models

    def start_all(self) -> None:
        """Start the workers of the models that are served."""
        for worker in self.children[: self._channels.workers]:
            worker.models = self.models
            self._start(worker)

    @property
    def due_s(self) -> float:
        """When there is something to do, whatever is heard until then."""
        return min(self.restart_at_s, self.budget.asks_again_s if self.budget and not self._closing else math.inf)

    @property
    def has_free_seats(self) -> bool:
        """Whether there are no workers but those whose models are served."""
        free = [worker for worker in self.children if worker.models is None and not worker.process]
        return len(free) == self._channels.workers

    def try_models(self, trial: Trial) -> None:
        """Start workers in the spare seats that load these models, while the others serve."""
        self.trial = trial
        for worker in [worker for worker in self.children if worker.models is None]:
            worker.models = trial.models
            self._start(worker)

    def promote(self) -> ModelSet:
        """Serve the models that were tried; those that were served until now, which go on working, are returned."""
        assert self.trial
        retired, self.models, self.trial = self.models, self.trial.models, None
        if self.budget:
            self.budget.begin(self.models)
        for worker in self._workers_of(self.models):
            self._show(worker)
            for report in worker.reports.values():
                self._show_load(report)
        return retired

    def end_trial(self) -> ModelSet | None:
        """End the workers of the models that were tried, if any are; these models."""
        if self.trial is None:
            return None
        models, self.trial = self.trial.models, None
        self.end(models)
        return models

    def end(self, models: ModelSet) -> None:
        """End the workers of these models, which hold nothing."""
        for worker in self._workers_of(models):
            worker.free()
            if worker.process:
                worker.process.kill()

    def failures(self) -> dict[int, str]:
        """Why models of those that are served are ready in no worker, by their numbers."""
        reports = [report for worker in self._workers_of(self.models) for report in worker.reports.values()]
        ready = {report.model for report in reports if report.state == "ready"}
        return {report.model: report.reason for report in reports if report.model not in ready}

    def _workers_of(self, models: ModelSet) -> list[WorkerChild]:
        return [worker for worker in self.children if worker.models is models]

    def _serving(self) -> list[WorkerChild]:
        """The workers that take batches, without one whose last reports are read."""
        return [worker for worker in self._workers_of(self.models) if worker.up and worker.process]

    def ups(self, models: ModelSet | None = None) -> Iterator[WorkerUp]:
        """The workers that have these models, or, retired ones first, all that an API process must know that starts."""
        tried = self.trial.models if self.trial else None
        known = [worker for worker in self.children if worker.up and worker.models not in (None, tried)]
        known.sort(key=lambda worker: worker.models is self.models)
        return (self._worker_up(worker) for worker in known if models in (None, worker.models))

    def look(self, now_s: float) -> None:
        """Start those whose time has come, and kill those that hang."""
        self.start_due(now_s)
        for worker in self.children:
            if worker.process:
                self._look_for_hang(worker, now_s)
        if self.budget:
            self.budget.look()

    def _launch(self, child: WorkerChild) -> BaseProcess:
        shared_state = self._channels.shared_state
        requests = [self._channels.requests[row] for row in shared_state.rows_of(child.index)]
        for pipe in (*requests, self._channels.reports[child.index]):
            pipe.drain()
        shared_state.begin_life(child.index, child.epoch)
        assert child.models
        wanted = self.budget.wanted(child) if self.budget else None
        child.loading = Countdown(self._start_timeout_s)
        child.wanted = len(child.models.catalog.artifacts if wanted is None else wanted)
        return self._launcher.launch_worker(child.index, child.models, wanted)

    # Reports

    def _read_reports(self, worker: WorkerChild) -> None:
        try:
            data = os.read(self._channels.reports[worker.index].reader, 1 << 16)  # all that a pipe holds
        except BlockingIOError:  # it was read when the worker's end was seen
            return
        *lines, worker.unparsed = (worker.unparsed + data).split(b"\n")
        for line in lines:
            sent = WorkerReport.from_line(line)
            if sent.epoch == worker.epoch and not worker.killed_as and worker.models:
                self._on_report(worker, worker.models.catalog, sent.report)

    def _on_report(self, worker: WorkerChild, catalog: Catalog, report: ModelReport) -> None:
        artifact = catalog[report.model]
        about = {"model": artifact.name, "version": artifact.version, **self._about(worker)}
        if report.state == "ready":
            log.info("model ready", **about, engine=report.engine, device=report.device, seconds=report.load_seconds)
            if worker.models is self.models:
                self._show_load(report)
        elif report.state == "unloaded":
            log.info("model unloaded", **about)
        else:
            log.error("model failed", **about, reason=report.reason)
            self._metrics.model_load_failures.inc()
        if worker.up and self.budget:
            self.budget.on_report(worker, report)
            return
        worker.reports[report.model] = report
        if report.model == catalog.default:
            worker.lacks_default = report.state == "failed"
        if len(worker.reports) == worker.wanted:
            self._on_loaded(worker)

    def _on_loaded(self, worker: WorkerChild) -> None:
        """All models are loaded or have failed: take the worker, unless it lacks the one that matters most."""
        if self.trial and worker.models is self.trial.models:
            self._on_tried(self.trial, worker)
        elif not worker.lacks_default:
            self._on_worker_up(worker)
        elif all(other.lacks_default and not other.ever_up for other in self._workers_of(self.models)):
            self._give_up("the default model cannot be served")
        else:
            self._start_over(worker)

    def _start_over(self, worker: WorkerChild) -> None:
        log.error("worker starts over", **self._about(worker), why="it could not load the default model")
        worker.killed_as = "exit"
        if worker.process:
            worker.process.kill()

    def _on_tried(self, trial: Trial, worker: WorkerChild) -> None:
        """One more worker has tried the models; the trial ends when all have."""
        self._take(worker)
        workers = self._workers_of(trial.models)
        if all(worker.up for worker in workers):
            reports = [report for worker in workers for report in worker.reports.values()]
            trial.on_loaded({report.model: report.reason for report in reports if report.state == "failed"})

    def _on_worker_up(self, worker: WorkerChild) -> None:
        self._take(worker)
        self._show(worker)
        self._tell(self._worker_up(worker))
        if self.budget and worker.models is self.models:
            self.budget.on_worker_up(worker)

    def _take(self, worker: WorkerChild) -> None:
        worker.up = worker.ever_up = True
        worker.up_s = time.monotonic()
        worker.start_s = worker.up_s - worker.born_s
        log.info("worker up", **self._about(worker), seconds=round(worker.start_s, 3))

    def _show(self, worker: WorkerChild) -> None:
        """Tell in the metrics whether a worker takes batches, if its models are served."""
        if worker.models is self.models:
            self._metrics.worker_up.set(float(worker.up), str(self._about(worker)["worker"]))

    def _show_load(self, report: ModelReport) -> None:
        """Tell in the metrics what loading a model took that is served, as more than a shadow."""
        catalog = self.models.catalog
        if report.model != catalog.shadow:
            self._metrics.model_load_seconds.set(report.load_seconds, catalog[report.model].name)

    def _about(self, child: WorkerChild) -> dict[str, int]:
        """A worker has the same number in both of its seats."""
        return {"worker": self._channels.worker_of(child.index)}

    def _worker_up(self, worker: WorkerChild) -> WorkerUp:
        retired = worker.models is not self.models
        reports = self.budget.shown(worker) if self.budget and not retired else tuple(worker.reports.values())
        return WorkerUp(worker.index, worker.epoch, reports, worker.start_s, retired)

    # Ends

    def _on_end(self, child: WorkerChild) -> None:
        code = self._reap(child)
        reason = self._reason(child, code)
        self._read_reports(child)  # what it had done counts, whatever is seen first
        was_up, child.up = child.up, False
        self._show(child)
        if was_up:
            self._tell(WorkerDown(child.index, reason))
        if self.budget:
            self.budget.on_end(child)
        if child.models is None:
            log.info("worker ended", **self._about(child), why="its models are not served any more")
        elif not self._closing:
            log.error("worker died", **self._about(child), exit_code=code, reason=reason)
            self._metrics.worker_restarts.inc(reason)
            self.deaths += child.models is self.models
            self._plan_restart(child)
            if self.trial and child.models is self.trial.models and child.deaths >= FIRST_STARTS:
                self.trial.on_lost(f"the worker that loaded it ended with exit code {code}")

    def _look_for_hang(self, worker: WorkerChild, now_s: float) -> None:
        if not worker.up:
            if worker.loading.is_over(now_s):
                self._kill_hung(worker, "it did not load its models in time")
        elif worker.is_hung(self._channels.shared_state, now_s):
            self._kill_hung(worker, "its batch takes far longer than at warm-up")
        elif worker.leaves_unread(self._channels, now_s):
            self._kill_hung(worker, "it does not read its next batch")
