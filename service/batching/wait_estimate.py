"""What an image costs the workers now, in which batches, and how long a request that is admitted now would wait."""

import time
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from statistics import median

from service.batch_costs import doubling_pays, image_costs
from service.ipc.messages import MAX_BATCH_SIZE
from service.ipc.reports import ModelReport
from service.ipc.shared_state import SharedState
from service.policy import DEMAND_NS, NEWEST_WEIGHT, OUTLIER_FACTOR, PAYING_IMAGES, TRIAL_INTERVAL, TRIALS


class BatchSizes:
    """How many images of one model run together: first as warm-up found, then as shows under load.

    Warm-up measures in one second, which may be a busy one. So in each interval of TRIAL_INTERVAL batches one is twice
    as large as the largest, if enough images wait, or smaller. Two sizes are compared within an interval, by the
    quickest batch of each, and the median of a few intervals decides: in some, one or the other was interrupted.
    """

    def __init__(self) -> None:
        self.limit = 1
        """Images in the next batch at most: the largest, or what is tried."""
        self._largest, self._most, self._tried = 1, 0, 1
        self._is_open = False  # neither set by the user, nor as large as the engine allows
        self._quickest_ns: dict[int, int] = {}  # by size, in this interval
        self._batches, self._intervals = 0, 0
        self._ratios: defaultdict[int, list[float]] = defaultdict(list)  # of costs, by size that was tried

    def paying(self, admitted: int) -> int:
        """Images that are worth a batch where so many are admitted: half of them keep the workers busy meanwhile."""
        return min(max(PAYING_IMAGES, min(2 * PAYING_IMAGES, admitted >> 1)), self._largest)

    def learn(self, report: ModelReport) -> None:
        """Adopt what the first worker found at warm-up; a later one knows less than the batches since then.

        But no worker is to run more than its engine is made for.
        """
        if not self._most:
            self._largest = report.max_batch_size
            self._most = MAX_BATCH_SIZE
        self._most = min(max(report.most_images, report.max_batch_size), self._most)
        self._largest = self.limit = min(self._largest, self._most)
        self._is_open = self._largest < self._most

    def observe(self, size: int, ns: int) -> None:
        """A batch of this size took so long."""
        if not self._is_open:
            return
        self._quickest_ns[size] = min(ns, self._quickest_ns.get(size, ns))
        if size > self._largest or size == self.limit:
            self.limit = self._largest
        self._batches += 1
        if self._batches == TRIAL_INTERVAL:
            self._compare(image_costs(self._quickest_ns))
            self._begin_interval()

    def _begin_interval(self) -> None:
        """Try the double in every other interval, and in those between the half, the quarter and so on, in turn."""
        self._quickest_ns.clear()
        self._batches = 0
        self._intervals += 1
        smaller = self._largest.bit_length() - 1
        if self._intervals % 2 or not smaller:
            self._tried = min(2 * self._largest, self._most)
        else:
            self._tried = self._largest >> 1 + self._intervals // 2 % smaller
        self.limit = self._tried

    def _compare(self, costs: Mapping[int, float]) -> None:
        """Make what was tried the largest if it has turned out to be better in most of a few intervals."""
        tried, largest = self._tried, self._largest
        if tried == largest or tried not in costs or largest not in costs:
            return
        ratios = self._ratios[tried]
        ratios.append(costs[tried] / costs[largest])
        if len(ratios) < TRIALS:
            return
        ratio = median(ratios)
        ratios.clear()
        if tried > largest:
            is_better = doubling_pays(ratio, 1, self._quickest_ns[tried])
        else:
            is_better = not doubling_pays(1, ratio, self._quickest_ns[largest])
        if is_better:
            self._largest = tried
            self._ratios.clear()


class LatencyModel:
    """What images of one model cost a worker: measured at warm-up, then scaled by what batches take under load."""

    def __init__(self) -> None:
        self.sizes = BatchSizes()
        self._expected_ns: Sequence[float] = ()  # by batch size less one
        self._slowdown = 1.0
        self.warm_ns = 0.0
        """What an image cost at warm-up, in a batch of the largest size that was measured."""
        self.image_ns = 0.0
        """What it costs now."""

    def learn(self, report: ModelReport) -> None:
        """Adopt what a worker measured at warm-up, or that it has the model no more."""
        if report.state == "ready":
            self.sizes.learn(report)
        self._expected_ns = interpolate(report.batch_latency_ms)
        self.warm_ns = report.image_ms * 1e6
        self.image_ns = self._slowdown * self.warm_ns

    def observe(self, size: int, ns: int) -> None:
        """A batch of this size took so long."""
        if not self._expected_ns:  # no worker that is up has the model any more
            return
        self.sizes.observe(size, ns)
        expected = self._expected_ns[min(size, len(self._expected_ns)) - 1]
        self._slowdown += NEWEST_WEIGHT * (min(ns / expected, OUTLIER_FACTOR * self._slowdown) - self._slowdown)
        self.image_ns = self._slowdown * self.warm_ns


class WaitEstimate:
    """The images that one API process has admitted and not yet released, and the time that the workers need for them.

    The API processes share the workers: each publishes its own time in the shared state and counts with the time of
    all.
    """

    def __init__(self, api: int, shared_state: SharedState, models: int) -> None:
        self.latencies = [LatencyModel() for _ in range(models)]
        """By the model's index."""
        self._api, self._times_ns = api, shared_state.held_ns
        self._images = [0] * models
        self._asked_ns = [0] * models  # when each was last asked for
        self.demand = 1
        """How many models are in demand."""
        self._held_ns = 0.0
        self._workers: set[int] = set()
        self._s_per_ns = 1e-9  # of worker time: each second holds as many as there are workers

    def begin_models(self, numbers: range) -> None:
        """Other models are served now: none is asked for yet, and those before are in demand no more."""
        while len(self.latencies) < numbers.stop:
            self.latencies.append(LatencyModel())
            self._images.append(0)
            self._asked_ns.append(0)
        for number in numbers:
            self.latencies[number] = LatencyModel()
        self._asked_ns[:] = [0] * len(self._asked_ns)
        self.demand = 1

    def holds_none_but(self, numbers: range) -> bool:
        """Whether there is no image of any other model."""
        return sum(self._images) == sum(self._images[numbers.start : numbers.stop])

    def images(self, number: int) -> int:
        """How many images there are of this model."""
        return self._images[number] if number < len(self._images) else 0

    def worker_up(self, worker: int, reports: Iterable[ModelReport]) -> None:
        """A worker takes part, and has measured what its models cost."""
        self._workers.add(worker)
        self._share()
        for report in reports:
            self.learn(report)

    def learn(self, report: ModelReport) -> None:
        """A worker has measured what a model costs, if it could load it."""
        if report.state != "failed":
            self.latencies[report.model].learn(report)
            self._add_up()

    def worker_down(self, worker: int) -> None:
        """A worker takes no part any more."""
        self._workers.discard(worker)
        self._share()

    def _share(self) -> None:
        self._s_per_ns = 1e-9 / max(1, len(self._workers))

    def add(self, model: int, images: int) -> None:
        """Count so many images of this model as admitted, or, if negative, as released; in constant time."""
        self._images[model] += images
        self._held_ns += images * self.latencies[model].image_ns
        self._times_ns[self._api] = int(self._held_ns)

    def observe(self, model: int, size: int, ns: int) -> None:
        """A worker ran a batch of this size in so many ns."""
        self.latencies[model].observe(size, ns)
        self._add_up()

    def _add_up(self) -> None:
        """Compute and publish anew what is held, at what images cost now."""
        self._held_ns = sum(
            [count * latency.image_ns for count, latency in zip(self._images, self.latencies, strict=True)]
        )
        self._times_ns[self._api] = int(self._held_ns)

    def note_demand(self, model: int) -> None:
        """This model is asked for."""
        now_ns = self._asked_ns[model] = time.monotonic_ns()
        if len(self._asked_ns) > 1:  # for each request: of one model it is 1
            self.demand = sum([asked_ns > now_ns - DEMAND_NS for asked_ns in self._asked_ns])

    def due(self, model: int, images: int) -> int:
        """How many places the others in demand are due, if each is due so many."""
        oldest_ns = time.monotonic_ns() - DEMAND_NS
        others = zip(range(len(self._images)), self._images, self._asked_ns, strict=True)
        return sum([max(0, images - held) for other, held, asked in others if other != model and asked > oldest_ns])

    @property
    def total_s(self) -> float:
        """Seconds until the workers have done all that is held, by whichever API process."""
        return sum(self._times_ns) * self._s_per_ns

    def wait_s(self, model: int) -> float:
        """Seconds until the workers have done what is held of this model; models in demand take turns."""
        wait_s = self.total_s
        if self.demand < 2 or not self._held_ns:
            return wait_s
        own_ns = self._images[model] * self.latencies[model].image_ns
        return wait_s * min(1.0, self.demand * own_ns / self._held_ns)


def interpolate(latency_ms: Sequence[tuple[int, float]]) -> list[float]:
    """Nanoseconds of a batch of 1, 2, 3, ... images up to the largest size measured: straight lines in between."""
    if not latency_ms:
        return []
    times = [latency_ms[0][1] * 1e6]
    for (size, ms), (next_size, next_ms) in pairwise(latency_ms):
        step = (next_ms - ms) / (next_size - size)
        times += [(ms + step * i) * 1e6 for i in range(1, next_size - size + 1)]
    return times
