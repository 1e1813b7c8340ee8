"""What is counted of a prediction request, from its headers to its end."""

import time
from collections.abc import Iterable

from service.metrics.metrics import Metrics
from service.prediction.response import STAGES, Answer


class Tally:
    """Counts the prediction requests of one API process, once its row of the metrics is attached.

    The many series that every good answer counts in are looked up here, once for each model.
    """

    def __init__(self, metrics: Metrics, models: Iterable[str]) -> None:
        self._metrics = metrics
        self._observe_stages = {
            model: metrics.stage_duration.observer(*((model, stage) for stage in STAGES)) for model in models
        }

    def begin(self) -> None:
        """Count a request whose headers are complete."""
        self._metrics.inflight.add(1)

    def count(self, answer: Answer, route: str) -> None:
        """Count a request whose answer has been written."""
        journey, metrics, model = answer.journey, self._metrics, answer.model
        metrics.inflight.add(-1)
        journey.written_ns = time.monotonic_ns()
        metrics.count_http(route, answer.to_method, answer.status)
        metrics.requests.inc(model, answer.version, answer.outcome)
        metrics.request_duration.observe(journey.total_ns / 1e9, model)
        if answer.shed:
            metrics.shed.inc(answer.shed)
        if answer.tops:
            self._observe_stages[model]([ns / 1e9 for ns in journey.stages_ns()])
        for label, probability in answer.tops:
            metrics.confidence.observe(probability, model)
            metrics.predictions.inc(model, label)

    def count_cancelled(self, answer: Answer) -> None:
        """Count a request whose client left before the answer."""
        self._metrics.inflight.add(-1)
        self._metrics.requests.inc(answer.model, answer.version, "cancelled")
