"""Which models are loaded, where not all may be at a time: `--memory-budget`.

A request for a model that is not loaded waits in its API process, which asks here; the model that was used longest ago
makes room, of those that have no image in flight. There is one decision and one command to one worker at a time: each
model is loaded once in each worker however many wait for it, and while a worker loads the others go on.
"""

import itertools
import math
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import structlog

from service.catalog.catalog import identity
from service.ipc.channels import Channels
from service.ipc.control import ControlMessage, ModelMoved, ModelRefused, ReleaseModel
from service.ipc.messages import ModelCommand
from service.ipc.pipe import write_some
from service.ipc.reports import ModelReport
from service.metrics.metrics import Metrics
from service.policy import HELD_LOOK_S, LOAD_RETRY_S, LOAD_TRIES, RELEASE_LIMIT_S, SUSPECT_NS
from service.pools.children import WorkerChild
from service.pools.model_set import ModelSet
from service.pools.model_sizes import ModelSizes
from service.pools.model_uses import ModelUses

log = structlog.get_logger()

_DIED = f"{LOAD_TRIES} workers that loaded it died"


class Refusal(NamedTuple):
    """Why a model is not loaded, and until when it is not tried again."""

    reason: str
    until_s: float


@dataclass(slots=True)
class Release:
    """A model that is to be unloaded, once every API process has said that it sends no more of it.

    `missing`: how many have not; `asked_s`: when they were asked.
    """

    number: int
    model: int
    missing: int
    asked_s: float


class ModelBudget:
    """Loads and unloads models in the workers that are served, in `budget` bytes of all workers together.

    What a model takes is what a worker measured, times the workers. The default model and a shadow are never unloaded.
    `tell` reaches the API processes and returns how many there are, `workers` are those that are up.

    Attributes:
        asks_again_s: when `look` asks once more for what had images in flight, on the monotonic clock.

    """

    def __init__(
        self,
        budget: int,
        models: ModelSet,
        channels: Channels,
        metrics: Metrics,
        start_timeout_s: float,
        tell: Callable[[ControlMessage], int],
        workers: Callable[[], Sequence[WorkerChild]],
    ) -> None:
        self._channels, self._metrics = channels, metrics
        self._start_timeout_s, self._tell, self._workers = start_timeout_s, tell, workers
        self._sizes = ModelSizes(budget, channels.workers, models.catalog)
        self._uses = ModelUses(metrics)
        self._numbers = itertools.count()  # of releases
        metrics.memory_budget.set(budget)
        self._models, self._deaths = models, Counter[int]()
        self._loaded = set[int]()  # models that every worker is to have, but for those that failed at it
        self.begin(models)

    def begin(self, models: ModelSet) -> None:
        """These models are served from now on; what their workers have loaded stays, as far as there is room."""
        self._retired, self._retired_loaded = self._models, frozenset(self._loaded - self._deadly)
        self._models, self._sizes.catalog = models, models.catalog
        reports = [report for worker in self._workers() for report in worker.reports.values()]
        self._loaded = {report.model for report in reports if report.state == "ready"} | models.catalog.pinned
        self._asked: dict[int, None] = {}  # to be loaded, in the order in which they were first asked for
        self._untried = deque(n for n in models.catalog.numbers if n not in self._loaded and not self._sizes.size(n))
        self._held: set[int] = set()  # had images in flight when they were last to be unloaded
        self.asks_again_s = math.inf
        self._refusals: dict[int, Refusal] = {}
        self._deaths = Counter[int]()  # of workers that loaded a model, since one was last ready
        self._command: tuple[WorkerChild, ModelCommand] | None = None
        self._release: Release | None = None
        self._note_ready(reports)

    def wanted(self, worker: WorkerChild) -> frozenset[int]:
        """The models that a worker loads at its start: of those that are served, what is loaded.

        Of a set that is tried also what is new; of a retired one, which may still have images, what was loaded last.
        """
        assert worker.models
        if worker.models is self._models:
            return frozenset(self._loaded - self._deadly)
        if worker.models is self._retired:
            return self._retired_loaded
        served, catalog = self._models.catalog, worker.models.catalog
        names = {served[number].name for number in self._loaded - self._deadly}
        known = set(map(identity, served.artifacts))
        new = {n for n in catalog.numbers if catalog[n].name in names or identity(catalog[n]) not in known}
        return frozenset(new | catalog.pinned)

    def shown(self, worker: WorkerChild) -> tuple[ModelReport, ...]:
        """What API processes are to know of a worker's models: not what it is about to unload, or may be."""
        known = worker.reports.values()
        had = self._loaded - {self._release.model} if self._release else self._loaded
        return tuple(report for report in known if report.state == "failed" or report.model in had)

    # What is heard

    def ask(self, model: int) -> None:
        """An API process has a request for a model that it knows to be in no worker."""
        refusal = self._refusals.get(model)
        if refusal and refusal.until_s > time.monotonic():
            self._tell(ModelRefused(model, refusal.reason, refusal.until_s - time.monotonic()))
        elif model in self._models.catalog.numbers:
            self._asked.setdefault(model)
            self._advance()

    def on_worker_up(self, worker: WorkerChild) -> None:
        """A worker has loaded what it was to load when it was started."""
        self._note_ready(worker.reports.values())
        self._advance()

    def on_report(self, worker: WorkerChild, report: ModelReport) -> None:
        """A worker that is up has done what it was told."""
        if self._command is None or self._command[0] is not worker or self._command[1].model != report.model:
            return
        self._command, model = None, report.model
        if report.state == "unloaded":
            del worker.reports[model]
        else:
            worker.reports[model] = report
            self._note_ready([report])
            self._on_loaded(worker, report)
        self._advance()

    def on_end(self, worker: WorkerChild) -> None:
        """A worker has died: what it was loading, as it was told or at its start, is tried once more."""
        if self._command and self._command[0] is worker:
            self._command = None
        loading = int(self._channels.shared_state.loading[worker.index])
        if loading and worker.models is self._models:
            self._on_death(worker, loading - 1)
        self._advance()

    def _on_death(self, worker: WorkerChild, model: int) -> None:
        """A worker has died that loaded this model; other workers may have it, and then go on with it."""
        self._deaths[model] += 1
        if self._deaths[model] >= LOAD_TRIES and model not in self._loaded:
            self._fail(worker, ModelReport(model, "failed", _DIED))

    def on_released(self, number: int, *, released: bool) -> None:
        """An API process sends nothing more of the model that is to be unloaded, or has images of it."""
        release = self._release
        if release is None or number != release.number:
            return
        if not released:
            self.cancel_release()
            self._advance()
            return
        release.missing -= 1
        self._end_release(release)

    def cancel_release(self) -> None:
        """A model is not unloaded after all; so it is, too, if an API process has come or gone meanwhile."""
        if release := self._release:
            self._release = None
            self._held.add(release.model)
            self.asks_again_s = min(self.asks_again_s, time.monotonic() + HELD_LOOK_S)
            for worker in self._workers():
                if report := worker.reports.get(release.model):
                    self._tell(ModelMoved(worker.index, report))

    def look(self) -> None:
        """Go on where images in flight were waited for, or an API process that does not answer."""
        now_s = time.monotonic()
        if now_s >= self.asks_again_s:
            self._held.clear()
            self.asks_again_s = math.inf
        if self._release and now_s - self._release.asked_s > RELEASE_LIMIT_S:
            self.cancel_release()
        self._uses.look(self._models.catalog)
        self._advance()

    # What is decided

    def _advance(self) -> None:
        """Do the next thing that can be done now."""
        workers = self._workers()
        self._drop_broken(workers)
        used = self._sizes.total(self._loaded)
        self._metrics.memory_budget_used.set(used)
        if not workers or self._command or self._release or self._catch_up(workers):
            return
        if used > self._sizes.room or not self._load_next(workers[0]):
            self._make_room()

    def _catch_up(self, workers: Sequence[WorkerChild]) -> bool:
        """Have a worker unload what it is not to have, or load what others have; whether there is any such."""
        for worker in workers:
            ready = {model for model, report in worker.reports.items() if report.state == "ready"}
            if extra := ready - self._loaded:
                self._send(worker, min(extra), load=False)
                return True
        for worker in workers:
            if missing := self._loaded - self._deadly - worker.reports.keys():
                self._send(worker, min(missing), load=True)
                return True
        return False

    def _drop_broken(self, workers: Sequence[WorkerChild]) -> None:
        """Give up a model that was loaded and that none of those workers, which have started anew, could load."""
        for model in self._loaded - self._models.catalog.pinned:
            untried = ModelReport(model, "failed", _DIED) if model in self._deadly else None
            reports = [worker.reports.get(model, untried) for worker in workers]
            failed = [report for report in reports if report and report.state == "failed"]
            if workers and len(failed) == len(workers):
                self._loaded.discard(model)
                self._refuse(model, f"the model failed to load: {failed[0].reason}")

    def _load_next(self, worker: WorkerChild) -> bool:
        """Have a worker load what is asked for and fits, or is to be tried; False if something has to make room."""
        for model in list(self._asked):
            if model in self._loaded:
                del self._asked[model]
            elif self._sizes.is_too_large(model):
                self._refuse_as_too_large(model)
            elif self._fits(model):
                self._send(worker, model, load=True)
                return True
        if not self._asked and self._untried:
            self._send(worker, self._untried[0], load=True)
        return not self._asked

    def _make_room(self) -> None:
        """Ask whether the model that was used longest ago, of those that may be, can be unloaded."""
        victims = self._loaded - self._models.catalog.pinned - self._held
        if victims:
            catalog = self._models.catalog
            self._uses.look(catalog)
            model = min(victims, key=lambda model: self._uses.last(catalog[model].name))
            number = next(self._numbers)
            release = self._release = Release(number, model, 0, time.monotonic())
            release.missing = self._tell(ReleaseModel(number, model))
            self._end_release(release)

    def _end_release(self, release: Release) -> None:
        if not release.missing:
            self._release = None
            self._loaded.discard(release.model)
            self._deaths.pop(release.model, None)
            artifact = self._models.catalog[release.model]
            self._metrics.model_unloads.inc(artifact.name)
            log.info("model makes room", model=artifact.name, version=artifact.version)
            self._advance()

    def _on_loaded(self, worker: WorkerChild, report: ModelReport) -> None:
        """A worker has loaded a model, or failed to: it stays if it is asked for, or fits."""
        model = report.model
        if model in self._loaded:
            self._tell(ModelMoved(worker.index, report))
        elif report.state == "failed":
            self._fail(worker, report)
        elif self._sizes.is_too_large(model) or (model not in self._asked and not self._fits(model)):
            self._tell(ModelMoved(worker.index, replace(report, state="unloaded")))
            if self._sizes.is_too_large(model):
                self._refuse_as_too_large(model)
            self._forget(model)
        else:
            self._keep(worker, report)

    def _keep(self, worker: WorkerChild, report: ModelReport) -> None:
        """A model that a worker has loaded stays, and the others are to load it, too."""
        model = report.model
        for other in self._workers():
            if model in other.reports and other.reports[model].state == "failed":
                del other.reports[model]  # it is tried again there, too
        self._loaded.add(model)
        self._metrics.model_loads.inc(self._models.catalog[model].name)
        self._tell(ModelMoved(worker.index, report))
        self._forget(model)

    def _fail(self, worker: WorkerChild, report: ModelReport) -> None:
        self._tell(ModelMoved(worker.index, report))
        self._refuse(report.model, f"the model failed to load: {report.reason}")

    def _refuse_as_too_large(self, model: int) -> None:
        artifact, reason = self._models.catalog[model], self._sizes.why_too_large(model)
        log.warning("model does not fit", model=artifact.name, version=artifact.version, reason=reason)
        self._refuse(model, reason)

    def _refuse(self, model: int, reason: str) -> None:
        self._refusals[model] = Refusal(reason, time.monotonic() + LOAD_RETRY_S)
        self._tell(ModelRefused(model, reason, LOAD_RETRY_S))
        self._forget(model)

    def _forget(self, model: int) -> None:
        """Drop what is kept of a model until it is decided about."""
        self._asked.pop(model, None)
        self._deaths.pop(model, None)
        if model in self._untried:
            self._untried.remove(model)

    # What is known

    @property
    def _deadly(self) -> set[int]:
        """Models that no further worker is to load, as workers died with them; those that have one keep it."""
        return {model for model, deaths in self._deaths.items() if deaths >= LOAD_TRIES} - self._models.catalog.pinned

    def _note_ready(self, reports: Iterable[ModelReport]) -> None:
        """Models are loaded: it is known what they take, and that no worker dies with them."""
        for report in reports:
            if report.state == "ready":
                self._deaths.pop(report.model, None)
                self._sizes.note(report.model, report.memory_bytes)

    def _fits(self, model: int) -> bool:
        """Whether there is room for a model beside all that are loaded; of what it takes nothing may be known yet."""
        return self._sizes.total(self._loaded) + self._sizes.size(model) <= self._sizes.room

    def _send(self, worker: WorkerChild, model: int, *, load: bool) -> None:
        """Tell a worker to load or unload a model, and API processes that nothing is to wait behind that.

        If its pipe is full of batches, it is told at the next look.
        """
        command = ModelCommand(worker.epoch, model, load, math.ceil(self._start_timeout_s))
        loads_ns = self._channels.shared_state.loads_ns[worker.index]
        loads_ns[-1] = SUSPECT_NS
        if write_some(self._channels.requests[worker.index].writer, command.pack()):
            self._command = worker, command
        else:
            loads_ns[-1] = 0
