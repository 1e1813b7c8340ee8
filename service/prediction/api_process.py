"""One API process: what it owns between its first request and its last."""

import asyncio
import os
from collections.abc import Callable

import structlog

from models.images.preprocessor import Preprocessor
from service.errors import Unavailable
from service.ipc.control import Begin, Drain, Listener, Message, SeatDown, SeatUp
from service.ipc.transport import Channels, Pipe
from service.metrics.metrics import Metrics, expose
from service.prediction.admission import Admission, Arrival
from service.prediction.batcher import Batcher
from service.prediction.deadlines import Deadlines
from service.prediction.decoding import Decoder
from service.prediction.model_status import Status
from service.prediction.request import Parts
from service.prediction.request_metrics import Tally
from service.prediction.wait_estimate import Backlog
from service.repository import Catalog
from service.settings import Settings

log = structlog.get_logger()

DEPTH_INTERVAL_S = 0.5
GRACE_MARGIN_S = 0.5  # of the grace period, for writing the refusals of what did not get done


class Api:
    """Listens to the supervisor, and holds the parts that answer requests.

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
        self.catalog, self.metrics, self.settings = catalog, metrics, settings
        self.status = Status(catalog)
        self.backlog = Backlog(index, channels.board, len(catalog.artifacts))
        self.admission = Admission(channels.slots_of(index), settings.max_bytes_in_flight, self.backlog)
        delays = [settings.batch_delay_of(artifact.name) for artifact in catalog.artifacts]
        self.batcher = Batcher(index, channels, delays, self.admission.release, self._on_batch)
        self.decoder = Decoder(settings.decode_threads)
        self.parts = Parts(
            catalog,
            [Preprocessor(artifact.metadata.preprocessing, settings.max_pixels) for artifact in catalog.artifacts],
            self.status,
            self.admission,
            Deadlines(),
            self.decoder,
            self.batcher,
            metrics,
            settings,
        )
        metrics.queue_capacity.set(settings.queue_capacity)
        self.tally = Tally(metrics, {artifact.name for artifact in catalog.artifacts})
        self._stop = stop
        self._loop = asyncio.get_running_loop()
        self._control = control
        self._loop.add_reader(control.reader, Listener(control, self._on_message).read)
        self._settled = False
        self._settling: asyncio.Task[None] | None = None
        self._supervisor_pid = os.getppid()
        self._publish_depth()

    def close(self) -> None:
        """Let go of everything."""
        self._loop.remove_reader(self._control.reader)
        self.batcher.close()
        self.decoder.close()

    @property
    def ready(self) -> bool:
        """Whether the default model can take work now."""
        return self.admission.open and self.status.ready

    def open_arrival(self, content_length: int | None, left_s: float) -> Arrival:
        """Let a request with so many seconds left in at its headers, or raise Unavailable or TooLarge."""
        self.admission.check(left_s)
        return Arrival(self.admission, self.settings.max_body_bytes, content_length)

    def expose_metrics(self) -> bytes:
        """The Prometheus text of the whole server."""
        self.metrics.queue_depth.set(self.batcher.depth)
        self.metrics.info = {
            (a.name, str(a.version), report.engine, report.device, report.precision, a.sha256): None
            for a, report in ((self.catalog.artifacts[i], report) for i, report in self.status.known.items())
            if report.state == "ready"
        }
        return expose(self.metrics, self._supervisor_pid)

    def _publish_depth(self) -> None:
        """Tell the depth of this process's queue to whichever process is scraped."""
        self.metrics.queue_depth.set(self.batcher.depth)
        self._loop.call_later(DEPTH_INTERVAL_S, self._publish_depth)

    def _on_batch(self, model: int, size: int, ns: int) -> None:
        self.backlog.observe(model, size, ns)
        self.metrics.batch_size.observe(size, self.catalog.artifacts[model].name)

    def _on_message(self, message: Message) -> None:
        match message:
            case SeatUp(seat, epoch, reports):
                self.status.seat_up(seat, list(reports))
                self.backlog.seat_up(seat, reports)
                self.batcher.seat_up(seat, epoch, reports)
            case SeatDown(seat):
                self.status.seat_down(seat)
                self.backlog.seat_down(seat)
                self.batcher.seat_down(seat)
            case Begin():
                self._settling = self._loop.create_task(self._settle())
            case Drain(delay_s, grace_s):
                self._drain(delay_s, grace_s)
        self._open_if_ready()

    async def _settle(self) -> None:
        await self.batcher.settle()
        self._settled = True
        self._open_if_ready()

    def _open_if_ready(self) -> None:
        """Let requests in once they can be served; a restarting worker does not shut the door again."""
        if self._settled and self.status.ready:
            self.admission.open = True

    def _drain(self, delay_s: float, grace_s: float) -> None:
        self.status.draining = True
        self._loop.call_later(delay_s, self._stop)
        self._loop.call_later(max(delay_s, grace_s - GRACE_MARGIN_S), self._refuse_the_rest)

    def _refuse_the_rest(self) -> None:
        self.admission.draining = True
        self.batcher.fail_all(Unavailable("draining", "the server stopped before this request was answered"))
