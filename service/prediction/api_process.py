"""One API process: what it owns between its first request and its last."""

import asyncio
import math
import os
from collections.abc import Callable

import structlog

from service.errors import Unavailable
from service.ipc.channels import Channels
from service.ipc.control import Begin, ControlMessage, ControlReader, Drain, WorkerDown, WorkerUp
from service.ipc.pipe import Pipe
from service.metrics.metrics import MeteredModel, Metrics
from service.metrics.process_tree import ProcessTree
from service.metrics.shared_scrape import SharedScrape
from service.metrics.snapshot import Snapshot
from service.policy import SCRAPE_INTERVAL_S
from service.prediction.admission import Admission
from service.prediction.batcher import Batcher
from service.prediction.decoding import Decoder
from service.prediction.model_status import ModelStatus
from service.prediction.problem_log import problem_log
from service.prediction.process_gauges import ProcessGauges
from service.prediction.request_metrics import RequestMetrics
from service.prediction.served_model import ServedModels
from service.prediction.services import Services
from service.prediction.wait_estimate import WaitEstimate
from service.repository import Catalog
from service.settings import Settings

log = structlog.get_logger()

DEPTH_INTERVAL_S = 0.5  # between two publications of the queue's depth
REFUSAL_MARGIN_S = 0.5  # part of the grace period that is kept for refusing requests that were not answered in time


class ApiProcess:
    """Makes the services that requests need, and follows the supervisor's messages.

    `stop` is called once draining is so far that no new connection is to be taken.
    """

    def __init__(
        self,
        index: int,
        channels: Channels,
        control: Pipe,
        catalog: Catalog,
        metrics: Metrics,
        settings: Settings,
        stop: Callable[[], None],
    ) -> None:
        metrics.attach(index)
        self._index = index
        self.metrics, self._stop, self._control = metrics, stop, control
        models = ServedModels(catalog, settings.max_pixels)
        self.status = ModelStatus(catalog, models.by_index)
        self._wait_estimate = WaitEstimate(index, channels.shared_state, len(catalog.artifacts))
        decoder = Decoder(settings.decode_threads, settings.decode_memory)
        admission = Admission(
            channels.slots_of(index),
            settings.max_bytes_in_flight,
            self._wait_estimate,
            decoder.estimate,
            settings.target_latency or math.inf,
        )
        request_metrics = RequestMetrics(metrics, [MeteredModel.of(artifact) for artifact in catalog.artifacts])
        delays_s = [settings.batch_delay_of(artifact.name) for artifact in catalog.artifacts]
        batcher = Batcher(
            index, channels, delays_s, self._wait_estimate, admission.release, request_metrics.count_batch
        )
        self.services = Services(settings, models, admission, decoder, batcher, request_metrics)
        metrics.queue_capacity.set(settings.queue_capacity)
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(control.reader, ControlReader(control, self._on_message).read)
        self._settled = False
        self._settling: asyncio.Task[None] | None = None
        self._shared_state = channels.shared_state
        self._gauges = ProcessGauges(metrics, batcher, decoder, self._wait_estimate)
        self._process_tree = ProcessTree(os.getppid())
        self._scrape = SharedScrape(self._render_metrics, SCRAPE_INTERVAL_S)
        self._publish_depth()

    def close(self) -> None:
        """Release what the process holds."""
        self._loop.remove_reader(self._control.reader)
        self.services.batcher.close()
        self.services.decoder.close()
        problem_log.flush(all_=True)

    @property
    def ready(self) -> bool:
        """Whether the default model can take work now."""
        return self.services.admission.open and self.status.ready

    async def expose_metrics(self) -> bytes:
        """The Prometheus text of the whole server."""
        return await self._scrape.text()

    async def _render_metrics(self) -> bytes:
        """On a thread, as it takes milliseconds; what the event loop changes is read before."""
        self._gauges.publish()
        busy = sum(self._shared_state.began_ns[worker] > 0 for worker in self.status.workers)
        snapshot = Snapshot(self.ready, busy, self.status.snapshot())
        return await asyncio.to_thread(self._render, snapshot)

    def _render(self, snapshot: Snapshot) -> bytes:
        return self.metrics.render([*snapshot.collect(), *self._process_tree.collect()])

    def _publish_depth(self) -> None:
        """Publish the depth of this process's queues, as another one may be scraped, and write what the log folds."""
        self._gauges.publish()
        problem_log.flush()
        self._loop.call_later(DEPTH_INTERVAL_S, self._publish_depth)

    def _on_message(self, message: ControlMessage) -> None:
        match message:
            case WorkerUp(worker, epoch, reports):
                self.status.worker_up(worker, reports)
                self._wait_estimate.worker_up(worker, reports)
                self.services.batcher.worker_up(worker, epoch, reports)
            case WorkerDown(worker):
                self.status.worker_down(worker)
                self._wait_estimate.worker_down(worker)
                self.services.batcher.worker_down(worker)
            case Begin():
                self._settling = self._loop.create_task(self._settle())
            case Drain(delay_s, grace_s):
                self._drain(delay_s, grace_s)
        self._open_if_ready()

    async def _settle(self) -> None:
        await self.services.batcher.settle()
        self._settled = True
        self._open_if_ready()

    def _open_if_ready(self) -> None:
        """Admit requests once they can be answered; from then on a restarting worker does not close it again."""
        if self._settled and self.status.ready and not self.services.admission.open:
            self.services.admission.open = True
            log.info("ready", api_process=self._index)

    def _drain(self, delay_s: float, grace_s: float) -> None:
        self.status.draining = True
        self._loop.call_later(delay_s, self._stop)
        self._loop.call_later(max(delay_s, grace_s - REFUSAL_MARGIN_S), self._refuse_the_rest)

    def _refuse_the_rest(self) -> None:
        self.services.admission.draining = True
        self.services.batcher.fail_all(Unavailable("draining", "the server stopped before this request was answered"))
