"""How long a request that is let in now would wait: the work that is held, at the pace that the workers show."""

from collections.abc import Iterable, Sequence
from itertools import pairwise

from service.ipc.reports import ModelReport
from service.ipc.transport import Board

NEWEST = 0.1  # weight of the newest batch in the pace
OUTLIER = 4.0  # times the pace: one batch counts for no more than that, for it may have been stopped


class Pace:
    """What images of one model cost the workers: measured at warm-up, then scaled by what batches take under load."""

    def __init__(self) -> None:
        self._expected_ns: Sequence[float] = ()  # by batch size less one
        self._cost_ns = 0.0  # of an image, at warm-up
        self._slowdown = 1.0
        self.image_ns = 0.0
        """What an image costs now, in a batch of the largest size that was measured."""

    def learn(self, report: ModelReport) -> None:
        """Take up what a worker measured at warm-up."""
        self._expected_ns, self._cost_ns = interpolate(report.batch_latency_ms), report.image_cost_ns
        self.image_ns = self._slowdown * self._cost_ns

    def observe(self, size: int, ns: int) -> None:
        """A batch of this size took so long."""
        expected = self._expected_ns[min(size, len(self._expected_ns)) - 1]
        self._slowdown += NEWEST * (min(ns / expected, OUTLIER * self._slowdown) - self._slowdown)
        self.image_ns = self._slowdown * self._cost_ns


class Backlog:
    """The images that one API process has let in and not yet let go, and the time that the workers need for them.

    Each process tells its own time on the board, and reckons with the time of all, since they share the workers.
    """

    def __init__(self, api: int, board: Board, models: int) -> None:
        self._api, self._times_ns = api, board.backlogs_ns
        self._paces = [Pace() for _ in range(models)]
        self._images = [0] * models
        self._held_ns = 0.0
        self._seats: set[int] = set()
        self._s_per_ns = 1e-9  # of the workers' time, of which each second gives as many as there are
        self._times_ns[api] = 0  # whatever a predecessor of this process held, which died

    def seat_up(self, seat: int, reports: Iterable[ModelReport]) -> None:
        """A worker takes part, and has measured what its models cost."""
        self._seats.add(seat)
        self._share()
        for report in reports:
            self._paces[report.model].learn(report)
        self._add_up()

    def seat_down(self, seat: int) -> None:
        """A worker takes no part any more."""
        self._seats.discard(seat)
        self._share()

    def _share(self) -> None:
        self._s_per_ns = 1e-9 / max(1, len(self._seats))

    def add(self, model: int, images: int) -> None:
        """So many images of this model are let in, or, if negative, let go; at the same cost among many models."""
        self._images[model] += images
        self._held_ns += images * self._paces[model].image_ns
        self._times_ns[self._api] = int(self._held_ns)

    def observe(self, model: int, size: int, ns: int) -> None:
        """A worker ran a batch of this size in so many ns."""
        self._paces[model].observe(size, ns)
        self._add_up()

    def _add_up(self) -> None:
        """Reckon what is held at the paces of now."""
        self._held_ns = sum([count * pace.image_ns for count, pace in zip(self._images, self._paces, strict=True)])

    @property
    def wait_s(self) -> float:
        """Seconds until the workers have done all that is held."""
        return sum(self._times_ns) * self._s_per_ns


def interpolate(latency_ms: Sequence[tuple[int, float]]) -> list[float]:
    """Nanoseconds of a batch of 1, 2, 3, ... images up to the largest size measured: straight lines in between."""
    if not latency_ms:
        return []
    times = [latency_ms[0][1] * 1e6]
    for (size, ms), (next_size, next_ms) in pairwise(latency_ms):
        step = (next_ms - ms) / (next_size - size)
        times += [(ms + step * i) * 1e6 for i in range(1, next_size - size + 1)]
    return times
