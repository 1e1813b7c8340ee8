"""Families of series: named counts in a row of shared memory, which prometheus_client exposes."""

from bisect import bisect_left
from collections.abc import Collection, Iterable, Iterator, Sequence
from itertools import accumulate
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.utils import floatToGoString


class HistogramCells(NamedTuple):
    """Where one series of a histogram lies in the row, for code that counts often: see `Histogram.observe`."""

    first: int
    sum: int
    buckets: Sequence[float]


class Family:
    """A metric's series: cells in the row for each combination of label values.

    `keys` are the combinations that are known from the start, others come with a model, and stay; without labels there
    is one series.

    `sparse` families have far more combinations than ever happen; they are exported once they are not zero.
    """

    width = 1
    is_scraped = True
    exposed: type[CounterMetricFamily | GaugeMetricFamily]
    """What prometheus_client calls it, if a series is one value."""

    def __init__(
        self,
        name: str,
        text: str,
        labels: tuple[str, ...] = (),
        keys: Iterable[tuple[str, ...]] = (),
        *,
        sparse: bool = False,
    ) -> None:
        self.name, self.text, self.labels, self.sparse = f"resnet_{name}", text, labels, sparse
        self.first_keys = tuple(keys) if labels else ((),)
        self._places: dict[tuple[str, ...], int] = {}
        self._row: Any = None

    @property
    def keys(self) -> Collection[tuple[str, ...]]:
        """The combinations of label values that have a place."""
        return self._places.keys()

    def lay_out(self, keys: Iterable[tuple[str, ...]], start: int) -> int:
        """Give those of these combinations that have none a place from `start` on; return where the next one begins."""
        for key in keys:
            if key not in self._places:
                self._places[key] = start
                start += self.width
        return start

    def use(self, row: memoryview) -> None:
        """Count into this row (float64) from now on."""
        self._row = row

    def cell(self, *labels: str) -> int:
        """Where the series with these label values begins in the row."""
        return self._places[labels]

    def series(self, sums: NDArray[np.float64]) -> Iterator[tuple[tuple[str, ...], NDArray[np.float64]]]:
        """Label values and cells of everything to be exported."""
        for key, place in self._places.items():
            cells = sums[place : place + self.width]
            if not self.sparse or cells.any():
                yield key, cells

    def cells_of(self, sums: NDArray[np.float64]) -> NDArray[np.float64]:
        """This family's part of a row, [series, width]."""
        return sums[self._cell_indices()]

    def set_cells(self, sums: NDArray[np.float64], cells: NDArray[np.float64]) -> None:
        """Write this family's part of a row."""
        sums[self._cell_indices()] = cells

    def _cell_indices(self) -> NDArray[np.intp]:
        places = np.fromiter(self._places.values(), np.intp, len(self._places))
        return places[:, np.newaxis] + np.arange(self.width)

    def samples(self, sums: NDArray[np.float64]) -> NDArray[np.float64]:
        """The values that `collect` gives of each series, [series, samples of one], of sparse families too."""
        return self.cells_of(sums)

    def collect(self, sums: NDArray[np.float64]) -> Metric:
        """This family as prometheus_client exposes it."""
        family = self.exposed(self.name, self.text, labels=self.labels)
        for key, cells in self.series(sums):
            family.add_metric(key, cells[0])
        return family


class Counter(Family):
    """A count that only grows."""

    exposed = CounterMetricFamily

    def inc(self, *labels: str, by: float = 1.0) -> None:
        """Count one, or so many."""
        self._row[self._places[labels]] += by


class Gauge(Family):
    """A value that each process sets; the sum over all processes is exported, or the highest."""

    exposed = GaugeMetricFamily

    def __init__(
        self,
        name: str,
        text: str,
        labels: tuple[str, ...] = (),
        keys: Iterable[tuple[str, ...]] = (),
        *,
        highest: bool = False,
        sparse: bool = False,
    ) -> None:
        super().__init__(name, text, labels, keys, sparse=sparse)
        self.highest = highest

    def set(self, value: float, *labels: str) -> None:
        """Set this process's part."""
        self._row[self._places[labels]] = value


class Histogram(Family):
    """A distribution over fixed buckets; its cells are the buckets' counts, the count above them, and the sum."""

    def __init__(
        self,
        name: str,
        text: str,
        buckets: Sequence[float],
        labels: tuple[str, ...] = (),
        keys: Iterable[tuple[str, ...]] = (),
    ) -> None:
        super().__init__(name, text, labels, keys)
        self._buckets = buckets
        self.width = len(buckets) + 2

    def observe(self, value: float, *labels: str) -> None:
        """Count one value."""
        place, row = self._places[labels], self._row
        row[place + bisect_left(self._buckets, value)] += 1.0
        row[place + self.width - 1] += value

    def cells(self, *labels: str) -> HistogramCells:
        """Where a series lies in the row."""
        place = self._places[labels]
        return HistogramCells(place, place + self.width - 1, self._buckets)

    def samples(self, sums: NDArray[np.float64]) -> NDArray[np.float64]:
        """Each series' buckets, which hold all below their bound, its count, and its sum."""
        cells = self.cells_of(sums)
        counts = cells[:, :-1].cumsum(axis=1)
        return np.hstack([counts, counts[:, -1:], cells[:, -1:]])

    def collect(self, sums: NDArray[np.float64]) -> Metric:
        """This family as prometheus_client exposes it."""
        family = HistogramMetricFamily(self.name, self.text, labels=self.labels)
        bounds = [*map(floatToGoString, self._buckets), "+Inf"]
        for key, cells in self.series(sums):
            counts = accumulate(cells[:-1])
            family.add_metric(key, list(zip(bounds, counts, strict=True)), cells[-1])
        return family


class SizeTable(Family):
    """How often something of each size was done, and the seconds that it took; too many series for a scrape."""

    is_scraped = False

    def __init__(self, name: str, labels: tuple[str, ...], largest: int) -> None:
        """Sizes from 1 to `largest`."""
        super().__init__(name, "", labels)
        self.width = 2 * largest

    def by_size(self, sums: NDArray[np.float64], *labels: str) -> dict[int, tuple[int, float]]:
        """How often, and the seconds of all together, of each size that there was."""
        place = self.cell(*labels)
        pairs = sums[place : place + self.width].reshape(-1, 2).tolist()
        return {size: (int(count), seconds) for size, (count, seconds) in enumerate(pairs, 1) if count}
