"""Every metric of the server: counts in shared memory, so that counting costs a fraction of a microsecond.

Every process adds to its own row; the process that is scraped sums all rows. The row of an API process that died is
taken over by its successor, so sums never fall. prometheus_client turns the sums into families; its own multiprocess
mode would cost tens of microseconds a request. How they become text is `exposition`'s.
"""

import threading
from collections.abc import Iterable, Iterator, Sequence
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray
from prometheus_client.core import Metric
from prometheus_client.registry import Collector

from models.artifact.reference import CONFIDENCE_BOUNDS
from service.config.settings import MOST_IN_BATCH
from service.errors import SHED_REASONS
from service.ipc.shared_memory import SharedMemory
from service.metrics.buckets import (
    BATCH_BUCKETS,
    BYTES_BUCKETS,
    DIFFERENCE_BUCKETS,
    REQUEST_BUCKETS,
    request_buckets,
    stage_buckets,
)
from service.metrics.exemplars import Exemplars
from service.metrics.exposition import Exposition
from service.metrics.families import Counter, Family, Gauge, Histogram, SizeTable
from service.metrics.metered_model import MeteredModel
from service.metrics.stages import STAGES
from service.policy import LATER_CELLS

OUTCOMES = ("ok", "client_error", "shed", "expired", "cancelled", "server_error")
REJECTIONS = ("bad_request", "unsupported_media_type", "too_large", "undecodable_image", "internal_error")
RESTART_REASONS = ("exit", "hang", "oom")
RESOURCES = ("workers", "decoders", "event_loop", "places", "bytes", "wait", "refusals")
SWAP_OUTCOMES = ("done", "refused")
SHADOW_OUTCOMES = ("agreed", "differed", "failed", "lost", "dropped")
COMPARED = ("live", "shadow")
METHODS = ("GET", "HEAD", "POST", "PUT", "DELETE", "other")
_STATUSES = (200, 400, 401, 403, 404, 405, 408, 409, 413, 415, 422, 429, 431, 500, 501, 503, 504)
_CODES = {status: str(status) for status in _STATUSES}
CODES = (*_CODES.values(), "other")
DRIFTS = ("classes", "confidence")


class Metrics(Collector):
    """Every metric of the server, for these models and workers.

    Rows: one for each API process, and a last one for the supervisor. `attach` chooses the row of this process.
    """

    def __init__(
        self,
        models: Sequence[MeteredModel],
        routes: Sequence[str],
        workers: int,
        api_processes: int,
        longest_s: float = REQUEST_BUCKETS[-1],
    ) -> None:
        """`longest_s`: the latest deadline that a request may have."""
        self._add_requests(routes)
        self._add_durations(longest_s)
        self._add_capacity()
        self._add_batches()
        self._add_processes(workers)
        self._add_models()
        self._add_images()
        self._add_shadows(longest_s)
        self._families = [family for family in vars(self).values() if isinstance(family, Family)]
        self._width = 0
        for family in self._families:
            self._width = family.lay_out(family.first_keys, self._width)
        self._lay_out(models)
        most = self._width + LATER_CELLS
        self._memory = SharedMemory((api_processes + 1) * most * 8)  # what is not written to takes none
        self._rows = self._memory.array("f8", (api_processes + 1, most))
        self.supervisor_row = api_processes
        self.exemplars = Exemplars(self.request_duration, api_processes, most)
        self._exposition = Exposition(self._scraped, self._width, self.exemplars)
        self._lock = threading.Lock()  # a scrape is rendered on a thread

    @property
    def _scraped(self) -> list[Family]:
        return [family for family in self._families if family.is_scraped]

    def has_room_for(self, models: Iterable[MeteredModel]) -> bool:
        """Whether their series find a place."""
        series = [(family, key) for model in models for family, keys in self._keys_of(model) for key in keys]
        missing = {(family, key) for family, key in series if key not in family.keys}
        return self._width + sum(family.width for family, _ in missing) <= int(self._rows.shape[1])

    def begin_models(self, models: Iterable[MeteredModel]) -> None:
        """Count for these models, too; every process has to do so for the same ones in the same order."""
        with self._lock:
            self._lay_out(models)

    def _lay_out(self, models: Iterable[MeteredModel]) -> None:
        for model in models:
            for family, keys in self._keys_of(model):
                self._width = family.lay_out(keys, self._width)

    def _keys_of(self, model: MeteredModel) -> Iterator[tuple[Family, Iterable[tuple[str, ...]]]]:
        """The series that come with a model."""
        name = model.name
        yield self.requests, product([name], [model.version], OUTCOMES)
        yield self.request_duration, product([name], OUTCOMES)
        yield self.stage_duration, product([name], STAGES)
        yield self.predictions, product([name], model.series)
        yield self.drift, product([name], DRIFTS)
        for family in (
            self.batch_size,
            self.batches,
            self.last_inference,
            self.model_load_seconds,
            self.confidence,
            self.model_loads,
            self.model_unloads,
        ):
            yield family, [(name,)]
        if model.is_shadow:
            yield self.shadow_images, product([name], [model.version], SHADOW_OUTCOMES)
            yield self.shadow_difference, [(name, model.version)]
            yield self.shadow_inference, product([name], [model.version], COMPARED)

    def _add_requests(self, routes: Sequence[str]) -> None:
        self.requests = Counter(
            "requests",
            "Prediction requests by how they ended.",
            ("model", "version", "outcome"),
            product([""], [""], OUTCOMES),
        )
        self.http_requests = Counter(
            "http_requests",
            "HTTP requests by route, method and status code.",
            ("route", "method", "code"),
            product([*routes, ""], METHODS, CODES),
            sparse=True,
        )
        self.inflight = Gauge("inflight_requests", "Prediction requests between headers and answer.")
        self.shed = Counter("requests_shed", "Requests refused with 503.", ("reason",), product(SHED_REASONS))

    def _add_durations(self, longest_s: float) -> None:
        self.request_duration = Histogram(
            "request_duration_seconds",
            "From headers complete to answer written, or to the client's leaving.",
            request_buckets(longest_s),
            ("model", "outcome"),
            product([""], OUTCOMES),
        )
        self.stage_duration = Histogram(
            "stage_duration_seconds",
            "How long answered requests spent in each stage.",
            stage_buckets(longest_s),
            ("model", "stage"),
        )
        self.requests_lost = Counter("requests_lost", "Prediction requests whose API process died before their answer.")

    def _add_capacity(self) -> None:
        self.queue_depth = Gauge("queue_depth", "Images that wait for a worker.")
        self.queue_capacity = Gauge("queue_capacity", "Images that the server holds at most.")
        self.decode_queue_depth = Gauge("decode_queue_depth", "Images that wait for a decoder.")
        self.decoders_busy = Gauge("decoders_busy", "Images that are being decoded on a thread.")
        self.estimated_wait = Gauge(
            "estimated_wait_seconds", "How long what is admitted will keep decoders and workers busy.", highest=True
        )
        self.capacity_used = Gauge(
            "capacity_used_ratio",
            "Share of each resource in use, averaged over 15 s; of wait, of what a request may wait.",
            ("resource",),
            product(RESOURCES),
            highest=True,
        )
        self.saturation = Gauge(
            "saturation_ratio", "Share in use of the resource that is scarcest, averaged over 15 s.", highest=True
        )

    def _add_batches(self) -> None:
        self.batch_size = Histogram("batch_size", "Images in each batch that ran.", BATCH_BUCKETS, ("model",))
        self.batches = SizeTable("batches", ("model",), MOST_IN_BATCH)
        self.last_inference = Gauge(
            "last_inference_timestamp_seconds",
            "When the last batch of the model ended, in seconds since 1970.",
            ("model",),
            highest=True,
            sparse=True,
        )

    def _add_processes(self, workers: int) -> None:
        numbers = [(str(worker),) for worker in range(workers)]
        self.worker_up = Gauge("worker_up", "1 while the worker takes batches.", ("worker",), numbers)
        self.worker_restarts = Counter("worker_restarts", "Workers replaced.", ("reason",), product(RESTART_REASONS))
        self.api_restarts = Counter("api_restarts", "API processes replaced.", ("reason",), product(RESTART_REASONS))

    def _add_models(self) -> None:
        self.model_load_seconds = Gauge("model_load_seconds", "How long loading, proving and warming took.", ("model",))
        self.model_load_failures = Counter(
            "model_load_failures", "Versions that could not be read, and models that a worker could not load or prove."
        )
        self.repository_problems = Gauge(
            "repository_problems",
            "What could not be had from the store of models when it was last asked; what was copied before is served.",
        )
        self.certificate_expiry = Gauge(
            "certificate_expiry_timestamp_seconds", "When the TLS certificate expires that is shown.", sparse=True
        )
        self.model_swaps = Counter(
            "model_swaps", "Changes of the models while running.", ("outcome",), product(SWAP_OUTCOMES)
        )
        self.memory_budget = Gauge("memory_budget_bytes", "What loaded models may take: --memory-budget.", sparse=True)
        self.memory_budget_used = Gauge(
            "memory_budget_used_bytes", "What the loaded models take of it, in all workers.", sparse=True
        )
        self.model_loads = Counter(
            "model_loads", "How often a model was loaded under --memory-budget.", ("model",), sparse=True
        )
        self.model_unloads = Counter(
            "model_unloads", "How often one made room for another under --memory-budget.", ("model",), sparse=True
        )

    def _add_images(self) -> None:
        self.image_bytes = Histogram("image_bytes", "Size of encoded images.", BYTES_BUCKETS)
        self.images_rejected = Counter(
            "images_rejected",
            "Images that were refused, or that the server failed for.",
            ("reason",),
            product(REJECTIONS),
        )
        self.confidence = Histogram(
            "prediction_confidence", "Probability of the top class.", CONFIDENCE_BOUNDS, ("model",)
        )
        self.predictions = Counter(
            "predictions",
            "Top classes answered.",
            ("model", "label"),
            sparse=True,
        )
        self.drift = Gauge(
            "prediction_drift",
            "Population stability index of recent answers and those on the pictures that the model was measured on.",
            ("model", "of"),
            highest=True,
            sparse=True,
        )

    def _add_shadows(self, longest_s: float) -> None:
        self.shadow_images = Counter(
            "shadow_images",
            "Images that a shadow was to get: it found the same class or not, failed, was lost, or there was no time.",
            ("model", "version", "outcome"),
        )
        self.shadow_difference = Histogram(
            "shadow_confidence_difference",
            "Between the probability of the class that a shadow found and that of the answer, without its sign.",
            DIFFERENCE_BUCKETS,
            ("model", "version"),
        )
        self.shadow_inference = Histogram(
            "shadow_inference_seconds",
            "What an image took of its batch's time in a worker, where it was answered and in the shadow.",
            stage_buckets(longest_s),
            ("model", "version", "of"),
        )

    def attach(self, row: int) -> None:
        """Count into this row from now on; gauges that a dead predecessor left there go back to zero."""
        self.row: Any = memoryview(self._rows[row])  # of float64, which memoryview's type cannot say
        for family in self._families:
            family.use(self.row)
        self.exemplars.attach(row)
        self._clear_gauges(row)

    def lose(self, row: int) -> int:
        """An API process has ended: count the requests that it held as lost; how many that were."""
        lost = int(self._rows[row, self.inflight.cell()])
        self.requests_lost.inc(by=lost)
        self._clear_gauges(row)
        return lost

    def _clear_gauges(self, row: int) -> None:
        for family in self._families:
            if isinstance(family, Gauge) and family is not self.last_inference:  # which stays true
                self._rows[row, [family.cell(*key) for key in family.keys]] = 0.0

    def count_http(self, route: str, method: str, status: int) -> None:
        """Count an HTTP request; methods and codes that are not known from the start are counted as `other`."""
        self.row[self.http_cell(route, method, status)] += 1.0

    def http_cell(self, route: str, method: str, status: int) -> int:
        """Where such HTTP requests are counted in the row."""
        return self.http_requests.cell(route, method if method in METHODS else "other", _CODES.get(status, "other"))

    def total(self, cells: Sequence[int]) -> NDArray[np.float64]:
        """The sum over all processes of each of these cells."""
        total: NDArray[np.float64] = self._rows[:, cells].sum(axis=0)
        return total

    def column(self, cell: int) -> NDArray[np.float64]:
        """This cell of each process, [processes], as it is whenever one looks."""
        column: NDArray[np.float64] = self._rows[:, cell]
        return column

    def sums(self) -> NDArray[np.float64]:
        """One row for the whole server."""
        sums: NDArray[np.float64] = self._rows[:, : self._width].sum(axis=0)
        for family in self._families:
            if isinstance(family, Gauge) and family.highest:
                family.set_cells(sums, np.stack([family.cells_of(row) for row in self._rows]).max(axis=0))
        return sums

    def describe(self) -> Iterator[Metric]:
        """Nothing: a registry needs no names in advance, and would have to collect everything to find them."""
        return iter(())

    def collect(self) -> Iterator[Metric]:
        """Every family, over all processes."""
        sums = self.sums()
        for family in self._scraped:
            yield family.collect(sums)

    def render(self, others: Iterable[Metric] = (), *, openmetrics: bool = False) -> bytes:
        """The text of every family now, and of these behind them, as Prometheus or OpenMetrics has it."""
        with self._lock:
            return self._exposition.render(self.sums(), others, openmetrics=openmetrics)

    def requests_by_outcome(self) -> dict[str, int]:
        """How many requests ended in each way, of all models."""
        sums = self.sums()
        totals = dict.fromkeys(OUTCOMES, 0)
        for (_, _, outcome), cells in self.requests.series(sums):
            totals[outcome] += int(cells[0])
        return totals
