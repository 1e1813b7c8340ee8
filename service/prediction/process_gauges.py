"""What an API process publishes of itself: another one may be the one that is scraped."""

from collections.abc import Sequence

from service.batching.batcher import Batcher
from service.batching.decoding import Decoder
from service.batching.wait_estimate import WaitEstimate
from service.metrics.drift import Drift
from service.metrics.metrics import Metrics
from service.prediction.saturation import Saturation


class ProcessGauges:
    """The gauges of one API process."""

    def __init__(
        self,
        metrics: Metrics,
        batcher: Batcher,
        decoder: Decoder,
        wait_estimate: WaitEstimate,
        saturation: Saturation,
        drifts: Sequence[Drift],
    ) -> None:
        self._metrics, self._batcher, self._decoder, self._wait_estimate = metrics, batcher, decoder, wait_estimate
        self._saturation, self._drifts = saturation, drifts
        self._answered = metrics.column(metrics.image_bytes.cells().sum)  # grows with each answer of a process
        self._seen = b""

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
