"""Exemplars: for each bucket of a histogram the trace of the newest request that fell into it, in shared memory.

As the counts, each process has a row of its own; the process that is scraped takes the newest of all rows.
"""

import time
from bisect import bisect_left
from struct import Struct
from typing import NamedTuple

import numpy as np

from service.ipc.shared_memory import SharedMemory
from service.metrics.families import Histogram

_RECORD = Struct("=d16s8sdd")
_FIELDS = np.dtype([("time_s", "f8"), ("trace_id", "V16"), ("span_id", "V8"), ("value", "f8"), ("written_s", "f8")])
"""The same for NumPy. The last field repeats the first: while they differ the record is being written."""


class Exemplar(NamedTuple):
    """A request that was counted in a bucket.

    Attributes:
        time_s: when, in seconds since the epoch.
        value: that was observed.

    """

    time_s: float
    trace_id: bytes
    span_id: bytes
    value: float

    def __str__(self) -> str:
        """What OpenMetrics has behind a sample."""
        labels = f'{{span_id="{self.span_id.hex()}",trace_id="{self.trace_id.hex()}"}}'
        return f" # {labels} {self.value!r} {self.time_s:.3f}"


class Exemplars:
    """Those of one histogram's buckets."""

    def __init__(self, histogram: Histogram, rows: int) -> None:
        """`histogram` has its place in the row already."""
        self.histogram = histogram
        self._start = histogram.cell(*histogram.keys[0])
        self._cells = len(histogram.keys) * histogram.width
        self._memory = SharedMemory(rows * self._cells * _RECORD.size)
        self._records = np.ndarray(rows * self._cells, _FIELDS, self._memory.map)
        self._first = 0

    def attach(self, row: int) -> None:
        """Write into this row from now on."""
        self._first = row * self._cells

    def note(self, value: float, trace_id: int, span_id: int, *labels: str) -> None:
        """A request with this trace was observed in the series with these labels."""
        series = self.histogram.cells(*labels)
        place = self._first + series.first - self._start + bisect_left(series.buckets, value)
        now_s = time.time()
        record = (now_s, trace_id.to_bytes(16), span_id.to_bytes(8), value, now_s)
        _RECORD.pack_into(self._memory.map, place * _RECORD.size, *record)

    def newest(self) -> dict[int, Exemplar]:
        """The newest of each bucket that has one, by the place of the bucket's line among the histogram's."""
        found: dict[int, Exemplar] = {}
        width = self.histogram.width
        for place in self._records["time_s"].nonzero()[0].tolist():
            time_s, trace_id, span_id, value, written_s = _RECORD.unpack_from(self._memory.map, place * _RECORD.size)
            series, bucket = divmod(place % self._cells, width)
            line = series * (width + 1) + bucket  # each series has lines of its buckets, its count and its sum
            if time_s == written_s and (line not in found or found[line].time_s < time_s):
                found[line] = Exemplar(time_s, trace_id, span_id, value)
        return found
