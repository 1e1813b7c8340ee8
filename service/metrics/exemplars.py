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
"""The record for NumPy. The last field repeats the first: a record in which they differ is being written. A record that
changes while it is copied may hide that, so it is copied twice, and the copies have to be equal."""


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
    """The exemplars of one histogram's buckets: a record for each cell of the metrics, of which its own are used."""

    def __init__(self, histogram: Histogram, rows: int, width: int) -> None:
        """`rows`, `width`: of the metrics."""
        self.histogram = histogram
        self._width = width
        self._memory = SharedMemory(rows * width * _RECORD.size)  # sparse
        self._records = np.ndarray((rows, width), _FIELDS, self._memory.map)
        self._row = 0

    def attach(self, row: int) -> None:
        """Write into this row from now on."""
        self._row = row

    def note(self, value: float, trace_id: int, span_id: int, *labels: str) -> None:
        """A request with this trace was observed in the series with these labels."""
        series = self.histogram.cells(*labels)
        now_s = time.time()
        record = (now_s, trace_id.to_bytes(16), span_id.to_bytes(8), value, now_s)
        place = self._row * self._width + series.first + bisect_left(series.buckets, value)
        _RECORD.pack_into(self._memory.map, place * _RECORD.size, *record)

    def newest(self) -> dict[int, Exemplar]:
        """The newest of each bucket that has one, by the place of the bucket's line among the histogram's."""
        found: dict[int, Exemplar] = {}
        buckets = self.histogram.width - 1  # the last cell is the sum
        lines = buckets + 2  # of a series: its buckets, its count and its sum
        for series, key in enumerate(self.histogram.keys):
            first = self.histogram.cell(*key)
            before, records = (self._records[:, first : first + buckets].copy() for _ in range(2))
            for row, bucket in zip(*records["time_s"].nonzero(), strict=True):
                if before[row, bucket].tobytes() != records[row, bucket].tobytes():
                    continue
                time_s, trace_id, span_id, value, written_s = records[row, bucket].tolist()
                line = series * lines + int(bucket)
                if time_s == written_s and (line not in found or found[line].time_s < time_s):
                    found[line] = Exemplar(time_s, trace_id, span_id, value)
        return found
