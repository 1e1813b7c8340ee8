"""What is counted of a prediction request, from its headers to its end."""

import time
from bisect import bisect_left
from collections.abc import Mapping
from typing import NamedTuple

from service.config.settings import MOST_IN_BATCH
from service.metrics.families import HistogramCells
from service.metrics.metered_model import MeteredModel
from service.metrics.metrics import REJECTIONS, Metrics
from service.metrics.stages import STAGES
from service.prediction.response import Response


class _ModelCells(NamedTuple):
    """Where the series lie that every good response of a model counts in."""

    ok: int
    durations: tuple[HistogramCells, ...]  # of the request that ends well, then of each stage
    confidence: HistogramCells
    predictions: dict[str, int]  # by label
    batch_size: HistogramCells
    batches: int  # where those of one image are counted
    last_inference: int


class RequestMetrics:
    """Counts the prediction requests of one API process, once its row of the metrics is attached.

    A good response counts in fourteen series: where they lie is looked up once for each model, and they are written
    without a call for each.
    """

    def __init__(self, metrics: Metrics, models: Mapping[int, MeteredModel]) -> None:
        self._metrics, self._row = metrics, metrics.row
        self._models: dict[int, _ModelCells] = {}
        self._by_version: dict[tuple[str, str], _ModelCells] = {}
        self.begin_models(models)
        self._inflight, self._image_bytes = metrics.inflight.cell(), metrics.image_bytes.cells()
        self._http: dict[tuple[str, str], int] = {}  # of status 200, by route and method

    def begin_models(self, models: Mapping[int, MeteredModel]) -> None:
        """Count for these models by their numbers, too, which the metrics have places for."""
        for number, model in models.items():
            cells, version = self._cells(model), (model.name, model.version)
            if before := self._by_version.get(version):  # whose other content requests may still be asking
                cells = cells._replace(predictions=before.predictions | cells.predictions)
            self._models[number] = self._by_version[version] = cells

    def _cells(self, model: MeteredModel) -> _ModelCells:
        metrics, name = self._metrics, model.name
        stages = (metrics.stage_duration.cells(name, stage) for stage in STAGES)
        return _ModelCells(
            metrics.requests.cell(name, model.version, "ok"),
            (metrics.request_duration.cells(name, "ok"), *stages),
            metrics.confidence.cells(name),
            {
                label: metrics.predictions.cell(name, series)
                for label, series in zip(model.labels, model.series, strict=True)
            },
            metrics.batch_size.cells(name),
            metrics.batches.cell(name),
            metrics.last_inference.cell(name),
        )

    def begin(self) -> None:
        """Count a request whose headers are complete."""
        self._row[self._inflight] += 1.0

    def count(self, response: Response, route: str) -> None:
        """Count a request whose response has been written."""
        self._row[self._inflight] -= 1.0
        if response.status == 200 and response.tops:
            self._count_good(response, route)
        else:
            self._count_other(response, route)
        for size in response.image_bytes:
            self._observe(self._image_bytes, size)

    def count_cancelled(self, response: Response) -> None:
        """Count a request whose client left before the response."""
        self._row[self._inflight] -= 1.0
        self._metrics.requests.inc(response.model, response.version, "cancelled")
        took_ns = time.monotonic_ns() - response.timestamps.headers_ns
        self._metrics.request_duration.observe(took_ns / 1e9, response.model, "cancelled")

    def count_batch(self, model: int, size: int, took_ns: int) -> None:
        """Count a batch of so many images of the model of this number, which a worker had for so long."""
        row, cells = self._row, self._models[model]
        self._observe(cells.batch_size, size)
        place = cells.batches + 2 * (min(size, MOST_IN_BATCH) - 1)
        row[place] += 1.0
        row[place + 1] += took_ns / 1e9
        row[cells.last_inference] = time.time()

    def _count_good(self, response: Response, route: str) -> None:
        row, cells, timestamps = self._row, self._by_version[response.model, response.version], response.timestamps
        http = self._http.get((route, response.method))
        if http is None:
            http = self._http[route, response.method] = self._metrics.http_cell(route, response.method, 200)
        row[http] += 1.0
        row[cells.ok] += 1.0
        for (first, total, buckets), ns in zip(
            cells.durations, (timestamps.total_ns, *timestamps.stages_ns()), strict=True
        ):
            seconds = ns / 1e9
            row[first + bisect_left(buckets, seconds)] += 1.0
            row[total] += seconds
        for label, probability in response.tops:
            self._observe(cells.confidence, probability)
            row[cells.predictions[label]] += 1.0
        if response.rejected:
            self._count_rejected(response)

    def _count_other(self, response: Response, route: str) -> None:
        metrics, model, outcome = self._metrics, response.model, response.outcome
        metrics.count_http(route, response.method, response.status)
        metrics.requests.inc(model, response.version, outcome)
        metrics.request_duration.observe(response.timestamps.total_ns / 1e9, model, outcome)
        if response.shed:
            metrics.shed.inc(response.shed)
        self._count_rejected(response)

    def _count_rejected(self, response: Response) -> None:
        for code in response.rejected:
            if code in REJECTIONS:
                self._metrics.images_rejected.inc(code)

    def _observe(self, cells: HistogramCells, value: float) -> None:
        """Count a value as `Histogram.observe` does, with the series looked up already."""
        row = self._row
        row[cells.first + bisect_left(cells.buckets, value)] += 1.0
        row[cells.sum] += value
