"""What an API process publishes of itself: another one may be the one that is scraped."""

from collections.abc import Iterable

from service.batching.wait_estimate import WaitEstimate
from service.ipc.shared_state import SharedState
from service.metrics.drift import Drift
from service.metrics.metered_model import MeteredModel
from service.metrics.metrics import Metrics
from service.prediction.model_status import ModelStatus
from service.prediction.saturation import Saturation, resources
from service.prediction.services import Services


class ProcessGauges:
    """The gauges of one API process."""

    def __init__(
        self,
        services: Services,
        metrics: Metrics,
        shared_state: SharedState,
        status: ModelStatus,
        wait_estimate: WaitEstimate,
    ) -> None:
        self._metrics, self._batcher, self._decoder = metrics, services.batcher, services.decoder
        self._wait_estimate = wait_estimate
        self._saturation = Saturation(resources(services, metrics, shared_state, status, wait_estimate))
        self._drifts: list[Drift] = []
        self._answered = metrics.column(metrics.image_bytes.cells().sum)  # grows with each answer of a process
        self._seen = b""
        metrics.queue_capacity.set(services.settings.queue_capacity)

    def begin_models(self, models: Iterable[MeteredModel]) -> None:
        """Measure the drift of these models, the live ones: a shadow's results are not sent to clients."""
        self._drifts = [Drift(self._metrics, model) for model in models if not model.is_shadow]

    def publish(self) -> None:
        """Write down what they are now."""
        metrics, decoder = self._metrics, self._decoder
        metrics.queue_depth.set(self._batcher.depth)
        metrics.decode_queue_depth.set(decoder.waiting)
        metrics.decoders_busy.set(decoder.busy)
        metrics.estimated_wait.set(self._wait_estimate.total_s + decoder.estimate.wait_s)
        self._saturation.look()
        shares = self._saturation.shares
        for name, share in shares.items():
            metrics.capacity_used.set(share, name)
        metrics.saturation.set(max(shares.values()))
        self._publish_drifts()

    def _publish_drifts(self) -> None:
        """Only if anything was answered since the last time: an idle server computes nothing."""
        before, self._seen = self._seen, self._answered.tobytes()
        if self._seen != before:
            for drift in self._drifts:
                drift.publish()
