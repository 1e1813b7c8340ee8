"""How many requests each key made, and whether they were let in."""

from collections.abc import Iterable, Iterator
from itertools import product

from prometheus_client.core import CounterMetricFamily, Metric

from service.ipc.shared_memory import SharedMemory

DECISIONS = ("admitted", "forbidden", "unknown", "limited")
MOST_NAMES = 256  # of keys, over the life of a server, that are counted by themselves; all others together

NO_KEY, OTHERS = "", "(others)"  # requests without a valid key; names beyond those


class KeyCounts:
    """Counts in shared memory, one row for each API process: they are added to without a lock, and read by any.

    A name keeps its place for the life of the server, also once its key is withdrawn. Every process is told the same
    names in the same order, so that a place means the same to all.
    """

    def __init__(self, api_processes: int) -> None:
        shape = (api_processes, MOST_NAMES, len(DECISIONS))
        self._counts = SharedMemory(8 * api_processes * MOST_NAMES * len(DECISIONS)).array("i8", shape)
        self._places = {NO_KEY: 0, OTHERS: 1}
        self._row = self._counts[0]

    def attach(self, row: int) -> None:
        """Count into this row from now on."""
        self._row = self._counts[row]

    def add_names(self, names: Iterable[str]) -> None:
        """Give each new name a place, as long as there are any."""
        for name in dict.fromkeys(names):
            if name not in self._places and len(self._places) < MOST_NAMES:
                self._places[name] = len(self._places)

    def count(self, name: str, decision: str) -> None:
        """Count one request."""
        self._row[self._places.get(name, self._places[OTHERS]), DECISIONS.index(decision)] += 1

    def collect(self) -> Iterator[Metric]:
        """The counter as Prometheus sees it, of what has happened."""
        sums = self._counts.sum(axis=0)
        labels = ("key", "decision")
        family = CounterMetricFamily(
            "resnet_key_requests", "Requests by their key, and what became of them.", labels=labels
        )
        for (name, place), (i, decision) in product(self._places.items(), enumerate(DECISIONS)):
            if sums[place, i]:
                family.add_metric((name, decision), float(sums[place, i]))
        yield family
