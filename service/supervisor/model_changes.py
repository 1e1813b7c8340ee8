"""Changes of the models while the server runs, one at a time.

The repository is read again, workers in spare seats load and prove what it has, and once all are ready the API
processes switch over. The workers that served until then run what waits for them, and are ended. Whatever goes wrong
before the switch leaves everything as it was.
"""

import math
import time
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from functools import partial

import structlog

from service.catalog.catalog import Catalog, Identity, identity
from service.catalog.selection import Selection
from service.config.settings import Settings
from service.ipc.control import ModelChange, NewModels
from service.metrics.metered_model import MeteredModel, metered_models
from service.metrics.metrics import Metrics
from service.policy import CHANGES_WAITING, RELEASE_MARGIN_S
from service.pools.api_pool import Answer, ApiPool
from service.pools.countdown import Countdown
from service.pools.model_set import ModelSet
from service.pools.worker_pool import Trial, WorkerPool
from service.supervisor.model_source import LoadFailures, ModelSource
from service.supervisor.repository_reader import RepositoryReader

log = structlog.get_logger()


@dataclass(eq=False, slots=True)
class RunningChange:
    """A change from its reading to the end of the workers that it retires.

    Attributes:
        again: versions that workers could not load are tried again.
        patience: after which it is given up, or, after the switch, the retired workers are ended in any case.
        failures: why some of all models are not served as the repository has them.
        retired: what was served before, once other models are.

    """

    change: ModelChange
    answer: Answer
    selection: Selection
    again: bool
    began_s: float = field(default_factory=time.monotonic)
    patience: Countdown = field(default_factory=lambda: Countdown(math.inf))
    failures: str = ""
    retired: ModelSet | None = None
    answered: bool = False


class ModelChanges:
    """Takes changes, and makes one after the other.

    While `is_copied` says that another process copies the repository none is begun: it would read what is half there.
    """

    def __init__(
        self,
        reader: RepositoryReader,
        workers: WorkerPool,
        apis: ApiPool,
        source: ModelSource,
        metrics: Metrics,
        settings: Settings,
        is_copied: Callable[[], bool],
    ) -> None:
        self._reader, self._workers, self._apis, self._metrics = reader, workers, apis, metrics
        self._settings, self._is_copied = settings, is_copied
        self._source = source
        self._selection = settings.selection
        self._load_failures: LoadFailures = {}
        self._waiting: deque[RunningChange] = deque()
        self._running: RunningChange | None = None
        self._closed = False

    @property
    def needs_repository(self) -> bool:
        """Whether the repository is read, or is to be as soon as that is possible."""
        return self._reader.busy or bool(self._waiting)

    @property
    def under_way(self) -> bool:
        """Whether a change is made, or waits to be."""
        return self._running is not None or bool(self._waiting)

    def ask(self, change: ModelChange, answer: Answer | None = None, *, again: bool = True) -> None:
        """Make this change as soon as those before it are made; `answer` is called once.

        Without a callback it is merged with an equal one that waits: signals come faster than folders are read.
        """
        same = next((one for one in self._waiting if one.change == change), None)
        if answer is None and same is not None:
            same.again |= again
            return
        answer = answer or _ignore_answer
        if self._closed:
            answer("the server is shutting down", False)
        elif len(self._waiting) >= CHANGES_WAITING:
            reason = f"{CHANGES_WAITING} changes wait already; try again later"
            _log_refusal(change, reason)
            answer(reason, False)
        else:
            self._waiting.append(RunningChange(change, answer, self._selection, again))

    def look(self, now_s: float) -> None:
        """Go on as far as is possible now."""
        self._reader.look(now_s)
        running = self._running
        if running and running.retired:
            self._look_for_release(running, running.retired, now_s)
        elif running and running.patience.is_over(now_s):
            self._on_lost(f"not every worker had loaded it within {self._settings.start_timeout:g} s (--start-timeout)")
        if self._running or not self._waiting or self._is_copied():
            return
        if self._workers.has_free_seats:
            self._begin(self._waiting.popleft())

    def close(self) -> None:
        """Make none any more: what is under way is given up, unless other models are served already."""
        self._closed = True
        self._reader.close()
        for running in [*filter(None, [self._running]), *self._waiting]:
            self._answer(running, "the server is shutting down", changed=False)
        self._waiting.clear()
        self._workers.end_trial()
        if self._running and not self._running.retired:
            self._running = None

    # Reading

    def _begin(self, running: RunningChange) -> None:
        self._running, change = running, running.change
        running.selection = _decide(self._selection, change, self._workers.models.catalog)
        if running.again:
            self._load_failures.clear()
        tell = log.info if running.again else log.debug
        tell("models are read", action=change.action, model=change.model or None, version=change.version)
        self._read(running)

    def _read(self, running: RunningChange) -> None:
        find = partial(self._source.find, self._workers.models, running.selection, running.change, self._load_failures)
        self._reader.read(find, self._on_read)

    def _on_read(self, found: ModelSet | str) -> None:
        running = self._running
        assert running
        if isinstance(found, str):
            self._refuse(found)
            return
        if not running.change.model:
            self._note_failures(running, found.catalog)
        served = self._workers.models.catalog
        if found.catalog.same_models(served):
            found.close()
            self._keep_models(running, found.catalog)
        elif not self._metrics.has_room_for(self._metered(found.catalog)):
            found.close()
            self._refuse("the metrics have no room for more models: start the server again")
        else:
            found.catalog = found.catalog.beside(served)
            running.patience = Countdown(self._settings.start_timeout)
            self._workers.try_models(Trial(found, partial(self._on_loaded, found), self._on_lost))

    def _note_failures(self, running: RunningChange, catalog: Catalog) -> None:
        """Tell which versions are not served though the repository has them."""
        for (name, version), reason in catalog.failed.items():
            log.error("model failed", model=name, version=version, reason=reason)
            self._metrics.model_load_failures.inc()
        running.failures = "; ".join(catalog.failed.values())

    def _keep_models(self, running: RunningChange, catalog: Catalog) -> None:
        """The same models are served; which versions could not be read may be others."""
        shadow, before = running.selection.shadow, self._failed_before()
        failed = {name: reason for (name, version, *_), reason in before.items() if (name, version) != shadow}
        if running.change.action == "load" and running.change.model in failed:
            self._refuse(failed[running.change.model])
            return
        models, self._selection = self._workers.models, running.selection
        models.catalog = replace(models.catalog, failed=catalog.failed)
        self._tell_models()
        self._finish(running, changed=False)

    # Loading

    def _on_loaded(self, models: ModelSet, failures: dict[int, str]) -> None:
        running = self._running
        assert running
        known = self._failed_before()
        new = {identity(models.catalog[number]): reason for number, reason in failures.items()}
        new = {one: reason for one, reason in new.items() if one not in known}
        if not new:
            self._switch(running)
            return
        self._workers.end_trial()
        models.close()
        if new.keys() & set(map(identity, self._workers.models.catalog.artifacts)):
            self._refuse("; ".join(new.values()))  # what is served cannot be loaded again now
            return
        self._load_failures |= new
        running.patience = Countdown(math.inf)
        self._running = None  # until the seats are free again
        running.again = False
        self._waiting.appendleft(running)

    def _failed_before(self) -> dict[Identity, str]:
        """Why models of those that are served are not ready in any worker."""
        models, reasons = self._workers.models.catalog, self._workers.failures()
        return {identity(models[number]): reason for number, reason in reasons.items()}

    def _on_lost(self, reason: str) -> None:
        models = self._workers.end_trial()
        if models:
            models.close()
        self._refuse(reason)

    # Switching over

    def _switch(self, running: RunningChange) -> None:
        trial = self._workers.trial
        assert trial
        self._metrics.begin_models(self._metered(trial.models.catalog))
        running.retired = self._workers.promote()
        running.patience = Countdown(self._settings.max_request_timeout + RELEASE_MARGIN_S)
        self._selection = running.selection
        self._metrics.model_swaps.inc("done")
        before, now = _versions(running.retired.catalog), _versions(trial.models.catalog)
        seconds = round(time.monotonic() - running.began_s, 3)
        log.info("models changed", loaded=sorted(now - before), unloaded=sorted(before - now), seconds=seconds)
        self._tell_models()

    def _metered(self, catalog: Catalog) -> Iterable[MeteredModel]:
        return metered_models(catalog, self._settings.class_metrics).values()

    def _tell_models(self) -> None:
        models = self._workers.models
        self._apis.tell(NewModels(models.number, models.catalog.pickle(), tuple(self._workers.ups(models))))

    def _look_for_release(self, running: RunningChange, retired: ModelSet, now_s: float) -> None:
        """End the retired workers once no API process needs them; a request's deadline is the latest that one does."""
        apis, number = [api for api in self._apis.children if api.process], self._workers.models.number
        if all(api.taken == number for api in apis):
            self._answer(running, running.failures, changed=True)
        if all(api.released == number for api in apis) or running.patience.is_over(now_s):
            self._workers.end(retired)
            retired.close()
            self._finish(running, changed=True)

    # The end

    def _refuse(self, reason: str) -> None:
        running = self._running
        assert running
        self._metrics.model_swaps.inc("refused")
        _log_refusal(running.change, reason)
        self._answer(running, reason, changed=False)
        self._running = None

    def _finish(self, running: RunningChange, *, changed: bool) -> None:
        if running.failures:
            self._metrics.model_swaps.inc("refused")
        self._answer(running, running.failures, changed=changed)
        self._running = None

    def _answer(self, running: RunningChange, refused: str, *, changed: bool) -> None:
        if not running.answered:
            running.answered = True
            running.answer(refused, changed)


def _log_refusal(change: ModelChange, reason: str) -> None:
    log.error("change refused", action=change.action, model=change.model or None, reason=reason)


def _ignore_answer(_refused: str, _changed: bool) -> None:
    """The answer to a change that no client has asked for."""


def _decide(selection: Selection, change: ModelChange, served: Catalog) -> Selection:
    """What is decided once this change is made."""
    match change.action:
        case "load":
            return selection.load(change.model, change.version)
        case "promote" | "restore":
            assert change.version is not None
            versions = {artifact.name: artifact.version for artifact in served.live}
            return selection.exchange(change.model, change.version, versions.get(change.model, change.version))
        case "unload":
            return selection.unload(change.model)
        case "delete":
            assert change.version is not None
            return selection.delete(change.model, change.version)
        case _:
            return selection


def _versions(catalog: Catalog) -> set[str]:
    return {f"{artifact.name}/{artifact.version}" for artifact in catalog.artifacts}
