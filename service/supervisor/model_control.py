"""What may change the models that are served: requests, SIGHUP, the repository, and what is counted of a shadow."""

from service.config.settings import Settings
from service.ipc.control import ModelChange
from service.metrics.metrics import Metrics
from service.policy import READING_STARTS
from service.pools.api_pool import Answer, ApiPool
from service.pools.reactor import Reactor
from service.pools.worker_pool import WorkerPool
from service.supervisor.model_changes import ModelChanges
from service.supervisor.model_source import ModelSource
from service.supervisor.repository_reader import RepositoryReader
from service.supervisor.repository_watch import Fingerprint, RepositoryWatch, fingerprint
from service.supervisor.shadow_watch import ShadowWatch


class ModelControl:
    """Brings all changes into one row; `served` was found before what is served was read."""

    def __init__(
        self,
        reactor: Reactor,
        workers: WorkerPool,
        apis: ApiPool,
        source: ModelSource,
        served: Fingerprint,
        metrics: Metrics,
        settings: Settings,
    ) -> None:
        self._workers = workers
        is_copy = isinstance(settings.model_repository, str)
        reading_s = READING_STARTS * settings.start_timeout + (settings.fetch_timeout if is_copy else 0)
        reader = RepositoryReader(reactor, reading_s)
        self._changes = ModelChanges(
            reader, workers, apis, source, metrics, settings, is_copied=lambda: is_copy and self._watch.busy
        )
        self._watch = RepositoryWatch(
            reactor,
            find=lambda: fingerprint(settings.model_repository, source.fetch()),
            served=served,
            interval_s=settings.poll_repository,
            timeout_s=reading_s,
            on_change=lambda answer, again: self._changes.ask(ModelChange("reread"), answer, again=again),
            is_read=lambda: self._changes.needs_repository,
        )
        self._shadow_watch = ShadowWatch(metrics, settings.promote_after, settings.promote_agreement)

    def ask(self, change: ModelChange, answer: Answer | None = None) -> None:
        """Make this change as soon as those before it are made; `answer` is called once."""
        self._changes.ask(change, answer)

    def look(self, now_s: float) -> None:
        """Ask for what the repository and the shadow call for, and go on with what was asked for."""
        self._watch.look(now_s)
        self._shadow_watch.follow(self._workers.models, self._workers.deaths, now_s)
        # What is counted speaks of the models that are served now: behind another change it would undo that.
        if not self._changes.under_way and (change := self._shadow_watch.look(now_s)):
            self._changes.ask(change, self._shadow_watch.on_ended)
        self._changes.look(now_s)

    def close(self) -> None:
        """Change nothing any more."""
        self._changes.close()
        self._watch.close()
