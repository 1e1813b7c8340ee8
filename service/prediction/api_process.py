"""One API process: what it owns between its first request and its last."""

import asyncio
import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import structlog

from service.auth.cors import Cors
from service.auth.guard import Guard
from service.auth.tls import ServerTls
from service.batching.admission import Admission
from service.batching.batcher import Batcher
from service.batching.decoding import Decoder
from service.batching.image_task import ImageTask
from service.batching.outbox import Outbox
from service.batching.shadow import Shadow
from service.batching.wait_estimate import WaitEstimate
from service.catalog.catalog import Catalog
from service.catalog.served_model import ModelLookup
from service.config.settings import SettingError, Settings
from service.errors import ServiceError
from service.ipc.channels import Channels
from service.ipc.control import (
    Begin,
    ChangeEnded,
    ChangeKeys,
    ControlMessage,
    ControlReader,
    ControlWriter,
    Drain,
    ModelMoved,
    ModelRefused,
    NewModels,
    ReleaseModel,
    ReloadTls,
    WorkerDown,
    WorkerUp,
)
from service.ipc.pipe import Pipe
from service.metrics.metered_model import MeteredModel, metered_models
from service.metrics.metrics import Metrics
from service.metrics.snapshot import Snapshot
from service.policy import BEAT_INTERVAL_S, RELOAD_PAUSE_S
from service.prediction.access_log import AccessLog
from service.prediction.change_requests import ChangeRequests
from service.prediction.deadlines import Deadlines
from service.prediction.metrics_endpoint import MetricsEndpoint
from service.prediction.model_demand import ModelDemand
from service.prediction.model_status import ModelStatus
from service.prediction.model_switch import ModelSwitch
from service.prediction.problem_log import problem_log
from service.prediction.process_gauges import ProcessGauges
from service.prediction.request_metrics import RequestMetrics
from service.prediction.restart_wait import RestartWait
from service.prediction.services import Services
from service.prediction.shutdown import Shutdown
from service.process.shortage import is_shortage

if TYPE_CHECKING:
    from service.prediction.tracing import Tracing

log = structlog.get_logger()

TRACES_SHARE = 0.8  # of the time that is left for draining, which traces may take at most: more, and an end is late


class ApiProcess:
    """Makes the services that requests need, and follows the supervisor's messages.

    `listen` is called once predictions can be answered; `stop` and `refuse_all` are what `Shutdown` calls.
    """

    def __init__(
        self,
        index: int,
        channels: Channels,
        control: Pipe,
        catalog: Catalog,
        metrics: Metrics,
        settings: Settings,
        listen: Callable[[], None],
        stop: Callable[[], None],
        refuse_all: Callable[[ServiceError], None],
        guard: Guard | None = None,
        tls: ServerTls | None = None,
    ) -> None:
        metrics.attach(index)
        if guard:
            guard.counts.attach(index)
        self.metrics, self._catalog, self._control, self._tls = metrics, catalog, control, tls
        self._tls_retry: asyncio.TimerHandle | None = None
        self._index, self._worker_of, self._shared_state = index, channels.worker_of, channels.shared_state
        self._listen, self._loop = listen, asyncio.get_running_loop()
        models = ModelLookup(catalog, settings.max_pixels, settings.image_types)
        self.status = ModelStatus(catalog, models.by_index, on_demand=settings.memory_budget > 0)
        self._wait_estimate = WaitEstimate(index, channels.shared_state, catalog.numbers.stop)
        metered = metered_models(catalog, settings.class_metrics)
        self._report = report = ControlWriter(channels.api_reports[index])
        self.services = self._make_services(settings, models, metered, channels, report, guard)
        self._restart_wait = RestartWait(self.status, self.services.admission, self.services.batcher)
        self.shutdown = Shutdown(self.status, self.services.admission, metrics, stop, refuse_all)
        self.changes = ChangeRequests(report, settings.start_timeout)
        self._switch = ModelSwitch(self.services, self._wait_estimate, metrics, report)
        self._begin_shadow(catalog)
        self._gauges = ProcessGauges(self.services, metrics, self._shared_state, self.status, self._wait_estimate)
        self._gauges.begin_models(metered.values())
        self.metrics_endpoint = MetricsEndpoint(metrics, guard, self._look)
        self._loop.add_reader(control.reader, ControlReader(control, self._on_message).read)
        self._settled = False
        self._settling: asyncio.Task[None] | None = None
        self._beat()

    def _make_services(
        self,
        settings: Settings,
        models: ModelLookup,
        metered: dict[int, MeteredModel],
        channels: Channels,
        report: ControlWriter,
        guard: Guard | None,
    ) -> Services:
        catalog, estimate = self._catalog, self._wait_estimate
        decoder = Decoder(settings.decode_threads, settings.decode_memory)
        admission = Admission(
            channels.slots_of(self._index),
            settings.max_bytes_in_flight,
            estimate,
            decoder.estimate,
            settings.target_latency or math.inf,
        )
        request_metrics = RequestMetrics(self.metrics, metered)
        delays_s = [settings.batch_delay_of(artifact.name) for artifact in catalog.artifacts]
        delays_s = [0.0] * catalog.first + delays_s
        outbox = Outbox()
        batcher = Batcher(
            self._index, channels, delays_s, estimate, outbox, admission.release, request_metrics.count_batch
        )
        demand = ModelDemand(self.status, admission, batcher, estimate, report) if settings.memory_budget else None
        share = settings.access_log
        return Services(
            settings=settings,
            models=models,
            admission=admission,
            decoder=decoder,
            batcher=batcher,
            outbox=outbox,
            request_metrics=request_metrics,
            deadlines=Deadlines(),
            access_log=None if share is None else AccessLog(share, settings.log_format),
            tracing=_tracing(settings, self.metrics),
            guard=guard,
            cors=Cors(settings.cors_origins) if settings.cors_origins else None,
            model_demand=demand,
        )

    def close(self) -> None:
        """Release what the process holds, and tell what it could not answer."""
        if refused := self.shutdown.refused:
            log.warning("drain cut short", refused=refused)
        self._loop.remove_reader(self._control.reader)
        self._switch.close()
        self.services.batcher.close()
        self.services.decoder.close()
        self.metrics_endpoint.close()
        problem_log.flush(all_=True)
        if self.services.access_log:
            self.services.access_log.flush()
        if self.services.tracing:
            self.services.tracing.close(TRACES_SHARE * self.shutdown.left_s)

    @property
    def ready(self) -> bool:
        """Whether the default model can take work now."""
        return self.services.admission.open and self.status.ready

    def _look(self) -> Snapshot:
        """What is so now in this process, and of the server."""
        self._gauges.publish()
        busy = sum(self._shared_state.began_ns[worker] > 0 for worker in self.status.workers)
        return Snapshot(self.ready, busy, self.status.snapshot())

    def _beat(self) -> None:
        """Give a sign of life, publish gauges, as another process may be scraped, and write what has waited.

        Waiting images are dispatched, too, in case the notice that a worker is free was lost.
        """
        self._loop.call_later(BEAT_INTERVAL_S, self._beat)  # first: what fails below is logged, and the next beat comes
        self.services.batcher.dispatch()
        self._report.flush()
        self._gauges.publish()
        problem_log.flush()
        self._shared_state.beats[self._index] += 1  # last: what fails every time has this process replaced

    def _on_message(self, message: ControlMessage) -> None:
        match message:
            case WorkerUp():
                self._on_worker_up(message)
            case NewModels(models, catalog, workers):
                self._on_new_models(models, Catalog.unpickle(catalog), workers)
            case ModelMoved() | ModelRefused() | ReleaseModel() if demand := self.services.model_demand:
                demand.follow(message)
            case ChangeEnded():
                self.changes.on_ended(message)
            case WorkerDown(worker, reason):
                self.status.worker_down(worker)
                self._wait_estimate.worker_down(worker)
                self._log_lost(worker, reason, self.services.batcher.worker_down(worker))
                self._restart_wait.worker_down()
            case Begin(models):
                self._settling = self._loop.create_task(self._settle(models))
            case Drain(delay_s, grace_s):
                self.shutdown.begin(delay_s, grace_s)
            case ChangeKeys(lines):
                self._change_keys(lines)
            case ReloadTls():
                self._reload_tls()
        self._open_if_ready()

    def _on_worker_up(self, message: WorkerUp) -> None:
        if message.retired:
            self._switch.on_retired_worker(message)
            return
        self.status.worker_up(message.worker, message.reports)
        self._wait_estimate.worker_up(message.worker, message.reports)
        self.services.batcher.worker_up(message.worker, message.epoch, message.reports)
        self._restart_wait.worker_up(message.start_s)

    def _on_new_models(self, models: int, catalog: Catalog, workers: Sequence[WorkerUp]) -> None:
        """Serve these models by these workers; where the models are the same, some that cannot be read are others."""
        if catalog.first == self._catalog.first:
            self._catalog = self.status.catalog = catalog
            return
        before, ready = self._catalog, [n for n in self._catalog.numbers if self.status.state(n) == "ready"]
        self._catalog = catalog
        metered = metered_models(catalog, self.services.settings.class_metrics)
        self._switch.begin(models, catalog, metered, self.status.workers)
        self._begin_shadow(catalog)
        self.status.follow(catalog, self.services.models.by_index)
        self._gauges.begin_models(metered.values())
        for worker in workers:
            self._on_worker_up(worker)
        if demand := self.services.model_demand:
            demand.follow_models(before, ready, catalog)

    def _begin_shadow(self, catalog: Catalog) -> None:
        services, number = self.services, catalog.shadow
        shadow = None
        if number is not None:
            served = services.models.by_index[number]
            live, latency = services.models[served.name, None], self._wait_estimate.latencies[number]
            share = services.settings.shadow_share
            shadow = Shadow(served, live, share, latency, services.admission, self.metrics)
        services.batcher.begin_shadow(shadow)

    async def _settle(self, models: int) -> None:
        await self.services.batcher.settle()
        self._settled = True
        self._switch.settle(models)
        self._open_if_ready()

    def _change_keys(self, lines: str) -> None:
        assert self.services.guard is not None
        self.services.guard.change_keys(lines)
        log.info("keys changed", api_process=self._index)

    def _reload_tls(self) -> None:
        """Show the certificates that the supervisor has read, or, without a descriptor left, once there is one."""
        assert self._tls is not None
        if self._tls_retry:
            self._tls_retry.cancel()
        try:
            self._tls.reload()
        except SettingError as error:
            log.error("certificates not changed", api_process=self._index, reason=str(error))
            if error.__cause__ and is_shortage(error.__cause__):
                self._tls_retry = self._loop.call_later(RELOAD_PAUSE_S, self._reload_tls)
        else:
            log.info("certificates changed", api_process=self._index)

    def _open_if_ready(self) -> None:
        """Admit requests once they can be answered; from then on a restarting worker does not close it again."""
        if self._settled and self.status.ready and not self.services.admission.open:
            self.services.admission.open = True
            self._listen()
            log.info("ready", api_process=self._index)

    def _log_lost(self, worker: int, reason: str, tasks: Sequence[ImageTask]) -> None:
        """Name what a worker was running when it died: one of these images may be the cause."""
        for number in dict.fromkeys(task.model for task in tasks):  # one in each of its threads
            batch = [task for task in tasks if task.model == number]
            log.error(
                "batch lost",
                worker=self._worker_of(worker),
                reason=reason,
                model=self._name_of(batch[0]),
                images=len(batch),
                requests=list(dict.fromkeys(task.request_id for task in batch)),
            )

    def _name_of(self, task: ImageTask) -> str:
        """The model's name; of one that is not served any more it is not known."""
        return self._catalog[task.model].name if task.model in self._catalog.numbers else ""


def _tracing(settings: Settings, metrics: Metrics) -> "Tracing | None":
    """What makes traces, if they are wanted; only then OpenTelemetry is needed."""
    if not settings.tracing:
        return None
    from service.prediction.tracing import Tracing

    return Tracing(metrics.exemplars)
