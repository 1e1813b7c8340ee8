"""The Prometheus text of all metrics, quick enough for a scrape in between.

prometheus_client takes some ten microseconds a line, a tenth of a second for ten models of a thousand classes. So it
renders every line once, before any process is forked or when a model brings it; a scrape fills in the values that have
changed. One thread at a time may do so. In OpenMetrics, for scrapers that ask for it, the same lines have other heads,
and some have exemplars.
"""

from collections.abc import Iterable, Iterator, Mapping

import numpy as np
from numpy.typing import NDArray
from prometheus_client import generate_latest
from prometheus_client.core import Metric
from prometheus_client.openmetrics.exposition import generate_latest as generate_openmetrics
from prometheus_client.registry import Collector

from service.metrics.exemplars import Exemplar, Exemplars
from service.metrics.families import Family

_END = "# EOF\n"


class _Once(Collector):
    """Families that are there already."""

    def __init__(self, metrics: Iterable[Metric]) -> None:
        self._metrics = metrics

    def collect(self) -> Iterator[Metric]:
        yield from self._metrics


def to_text(metrics: Iterable[Metric], *, openmetrics: bool = False) -> str:
    """The text of these families, as prometheus_client renders it; of OpenMetrics without its end."""
    if openmetrics:
        text: bytes = generate_openmetrics(_Once(metrics))  # type: ignore[no-untyped-call]
        return text.decode().removesuffix(_END)
    return generate_latest(_Once(metrics)).decode()


class FamilyText:
    """The lines of one family; those whose values are still the same stay as they are."""

    def __init__(self, family: Family, width: int) -> None:
        """`width`: cells in a row of the metrics."""
        self._family = family
        self._begin(width)

    def _begin(self, width: int) -> None:
        """Render the line of every series that there is now."""
        self._keys, self._body = len(self._family.keys), ""
        example = self._family.collect(np.ones(width))  # ones: sparse families leave zeros out
        lines = to_text([example]).split("\n")[:-1]
        example.samples = []  # what is left is the head
        self._heads = {openmetrics: to_text([example], openmetrics=openmetrics) for openmetrics in (False, True)}
        self._starts = [line[: line.rindex(" ") + 1] for line in lines if not line.startswith("#")]
        self._lines, self._samples = list(self._starts), np.full(len(self._starts), np.nan)

    def render(
        self, sums: NDArray[np.float64], *, openmetrics: bool = False, exemplars: Mapping[int, Exemplar] | None = None
    ) -> str:
        """The lines with the values of this row; `exemplars` by line."""
        self._update(sums)
        if not exemplars:
            return self._heads[openmetrics] + self._body
        lines = self._lines.copy()
        for i, exemplar in exemplars.items():
            lines[i] += str(exemplar)
        return self._heads[openmetrics] + "\n".join([*lines, ""])

    def _update(self, sums: NDArray[np.float64]) -> None:
        """Bring the lines up to date."""
        if len(self._family.keys) > self._keys:
            self._begin(len(sums))
        samples = self._family.samples(sums).ravel()
        changed = (samples != self._samples).nonzero()[0]
        if not len(changed):
            return
        for i, value in zip(changed.tolist(), samples[changed].tolist(), strict=True):
            self._lines[i] = self._starts[i] + repr(value)
        self._samples = samples.copy()
        lines = self._lines
        if self._family.sparse:  # one line a series
            lines = [lines[i] for i in samples.nonzero()[0].tolist()]
        self._body = "\n".join([*lines, ""])


class Exposition:
    """Every family as text, one of them with exemplars in OpenMetrics."""

    def __init__(self, families: Iterable[Family], width: int, exemplars: Exemplars) -> None:
        self._texts = {family.name: FamilyText(family, width) for family in families}
        self._exemplars = exemplars

    def render(self, sums: NDArray[np.float64], others: Iterable[Metric], *, openmetrics: bool = False) -> bytes:
        """The families with the values of this row, and other families behind them."""
        exemplars = {self._exemplars.histogram.name: self._exemplars.newest()} if openmetrics else {}
        texts = [
            text.render(sums, openmetrics=openmetrics, exemplars=exemplars.get(name))
            for name, text in self._texts.items()
        ]
        end = _END if openmetrics else ""
        return "".join([*texts, to_text(others, openmetrics=openmetrics), end]).encode()
