"""From one set of models to another, in an API process that goes on answering.

New requests get the new models. What waits for workers, or is in one, is done by those that have its model: the retired
ones, which the supervisor ends once no API process has anything there.
"""

import asyncio
from collections.abc import Iterable, Mapping

from service.batching.wait_estimate import WaitEstimate
from service.catalog.catalog import Catalog
from service.ipc.control import ControlWriter, ModelsTaken, WorkerUp
from service.metrics.metered_model import MeteredModel
from service.metrics.metrics import Metrics
from service.policy import RELEASE_LOOK_S
from service.prediction.services import Services


class ModelSwitch:
    """Hands the services other models, and reports to the supervisor that it is done, and that retired workers are."""

    def __init__(
        self, services: Services, wait_estimate: WaitEstimate, metrics: Metrics, report: ControlWriter
    ) -> None:
        self._services, self._wait_estimate, self._metrics, self._report = services, wait_estimate, metrics, report
        self._numbers = range(0)  # of the models that are served, once others were
        self._models = -1
        self._settled = False
        self._look: asyncio.TimerHandle | None = None

    def begin(self, models: int, catalog: Catalog, metered: Mapping[int, MeteredModel], retired: Iterable[int]) -> None:
        """Serve the catalog; these workers are retired."""
        services, settings = self._services, self._services.settings
        self._metrics.begin_models(metered.values())
        services.request_metrics.begin_models(metered)
        self._wait_estimate.begin_models(catalog.numbers)
        delays_s = [settings.batch_delay_of(artifact.name) for artifact in catalog.artifacts]
        services.batcher.begin_models(catalog.numbers, delays_s)
        for worker in retired:
            self._wait_estimate.worker_down(worker)
        services.models.follow(catalog)
        self._models, self._numbers = models, catalog.numbers
        self._report.send(ModelsTaken(models, released=False))
        self._release()

    def on_retired_worker(self, worker: WorkerUp) -> None:
        """A retired worker was there before this process, or is there again: it gets what still waits for it."""
        waiting = [report for report in worker.reports if self._wait_estimate.images(report.model)]
        self._services.batcher.worker_up(worker.worker, worker.epoch, waiting)

    def settle(self, models: int) -> None:
        """No worker works any more on what a predecessor of this process had sent."""
        self._settled = True
        if self._models < models:
            self._report.send(ModelsTaken(models, released=True))

    def close(self) -> None:
        """Look no more at what retired workers have."""
        if self._look:
            self._look.cancel()

    def _release(self) -> None:
        """Report that retired workers have nothing of this process, as soon as that is so."""
        loop, numbers = asyncio.get_running_loop(), self._numbers
        held = not (self._wait_estimate.holds_none_but(numbers) and self._services.batcher.holds_none_but(numbers))
        self._look = None
        if held or not self._settled:
            self._look = loop.call_later(RELEASE_LOOK_S, self._release)
        else:
            self._report.send(ModelsTaken(self._models, released=True))
