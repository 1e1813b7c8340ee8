"""How busy an event loop is."""

import os
import threading
import time
import weakref
from contextlib import suppress


class LoopTime:
    """The share of the time that the event loop's thread, which is the one that asks, ran or waited for a core."""

    def __init__(self) -> None:
        self._stat: int | None = None  # stays open: to open it takes far longer than to read it
        with suppress(OSError):
            self._stat = os.open(f"/proc/self/task/{threading.get_native_id()}/schedstat", os.O_RDONLY)
            weakref.finalize(self, os.close, self._stat)
        self._wanted_ns, self._now_ns = self._read_ns(), time.monotonic_ns()

    def __call__(self) -> float:
        """The share since the last call."""
        wanted_ns, now_ns = self._read_ns(), time.monotonic_ns()
        share = (wanted_ns - self._wanted_ns) / max(1, now_ns - self._now_ns)
        self._wanted_ns, self._now_ns = wanted_ns, now_ns
        return share

    def _read_ns(self) -> int:
        """Ran and waited (sched-stats of the kernel's documentation); where that is not known, ran."""
        if self._stat is None:
            return time.thread_time_ns()
        return sum(map(int, os.pread(self._stat, 64, 0).split()[:2]))
