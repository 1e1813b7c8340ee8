"""The Prometheus text of all metrics, quick enough for a scrape in between.

prometheus_client takes some ten microseconds a line, a tenth of a second for ten models of a thousand classes. So it
renders every line once, before any process is forked; a scrape fills in the values that have changed. One thread at a
time may do so.
"""

from collections.abc import Iterable, Iterator

import numpy as np
from numpy.typing import NDArray
from prometheus_client import generate_latest
from prometheus_client.core import Metric
from prometheus_client.registry import Collector

from service.metrics.families import Family


class _Once(Collector):
    """Families that are there already."""

    def __init__(self, metrics: Iterable[Metric]) -> None:
        self._metrics = metrics

    def collect(self) -> Iterator[Metric]:
        yield from self._metrics


def to_text(metrics: Iterable[Metric]) -> str:
    """The text of these families, as prometheus_client renders it."""
    return generate_latest(_Once(metrics)).decode()


class FamilyText:
    """The lines of one family; those whose values are still the same stay as they are."""

    def __init__(self, family: Family, width: int) -> None:
        """`width`: cells in a row of the metrics."""
        *lines, _ = to_text([family.collect(np.ones(width))]).split("\n")  # ones: sparse families leave zeros out
        self._head = [line for line in lines if line.startswith("#")]
        self._starts = [line[: line.rindex(" ") + 1] for line in lines if not line.startswith("#")]
        self._lines, self._samples = list(self._starts), np.full(len(self._starts), np.nan)
        self._family, self._text = family, ""

    def render(self, sums: NDArray[np.float64]) -> str:
        """The lines with the values of this row."""
        samples = self._family.samples(sums).ravel()
        changed = (samples != self._samples).nonzero()[0]
        if not len(changed):
            return self._text
        for i, value in zip(changed.tolist(), samples[changed].tolist(), strict=True):
            self._lines[i] = self._starts[i] + repr(value)
        self._samples = samples.copy()
        lines = self._lines
        if self._family.sparse:  # counters all: one line a series
            lines = [lines[i] for i in samples.nonzero()[0].tolist()]
        self._text = "\n".join([*self._head, *lines, ""])
        return self._text


class Exposition:
    """Every family as text."""

    def __init__(self, families: Iterable[Family], width: int) -> None:
        self._texts = [FamilyText(family, width) for family in families]

    def render(self, sums: NDArray[np.float64], others: Iterable[Metric]) -> bytes:
        """The families with the values of this row, and other families behind them."""
        texts = [text.render(sums) for text in self._texts]
        return "".join([*texts, to_text(others)]).encode()
