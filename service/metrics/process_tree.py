"""`process_*` of the whole server: the supervisor and all processes below it, as /proc tells of them (proc(5)).

Memory is what each process has for itself, and once what the one with most of it shares: its libraries, the models, the
slots. Exact figures are in `smaps_rollup`, for which the kernel walks all pages of each process.
"""

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

SNAPSHOT_TRIES = 5  # a process would have to end during each for the counter to be wrong until the next scrape


class _Stat(NamedTuple):
    """What /proc/PID/stat tells of a process, in clock ticks and bytes."""

    cpu: int
    waited_for: int  # what its children took that have ended, and that it has waited for
    started: int
    virtual_bytes: int


class ProcessTree:
    """One process and all that have come from it."""

    def __init__(self, pid: int, proc: Path = Path("/proc")) -> None:
        self._pid, self._proc = pid, proc
        self._ticks, self._page = os.sysconf("SC_CLK_TCK"), os.sysconf("SC_PAGE_SIZE")
        self._boot_s = self._boot_time_s()

    def collect(self) -> Iterator[Metric]:
        """What prometheus_client tells of one process, by the same names; nothing where there is no /proc."""
        stats = self._stats()
        if self._pid not in stats:
            return
        started_s = self._boot_s + stats[self._pid].started / self._ticks
        yield CounterMetricFamily(
            "process_cpu_seconds",
            "User and system CPU time of all processes, also of those that have ended.",
            sum(stat.cpu + stat.waited_for for stat in stats.values()) / self._ticks,
        )
        resident = self._resident_bytes(list(stats))
        yield _gauge("virtual_memory_bytes", "Sum over processes.", sum(stat.virtual_bytes for stat in stats.values()))
        yield _gauge("resident_memory_bytes", "Of all processes; what they share counts once.", resident)
        yield _gauge("start_time_seconds", "Start of the first process, since the epoch.", started_s)
        yield _gauge("open_fds", "Sum over processes.", sum(map(self._open_fds, stats)))
        yield _gauge("max_fds", "Limit of each process.", self._max_fds())

    def _stats(self) -> dict[int, _Stat]:
        """Every process at one moment: the time of one that ends moves to its parent, and must count once."""
        for _ in range(SNAPSHOT_TRIES):
            before = self._stat(self._pid)
            stats = {pid: stat for pid in self._pids() if (stat := self._stat(pid))}
            after = self._stat(self._pid)
            if before and after and before.waited_for == after.waited_for:
                break
        return stats

    def _pids(self) -> Iterator[int]:
        """The process and all below it."""
        waiting = [self._pid]
        while waiting:
            pid = waiting.pop()
            yield pid
            waiting += self._children(pid)

    def _children(self, pid: int) -> Iterator[int]:
        """The children of each of its threads; the list is cut short if the process ends meanwhile."""
        with suppress(OSError):
            for children in (self._proc / str(pid) / "task").glob("*/children"):
                with suppress(OSError):
                    yield from map(int, children.read_text().split())

    def _stat(self, pid: int) -> _Stat | None:
        """What is told of a process; None if it has gone."""
        try:
            fields = (self._proc / str(pid) / "stat").read_text().rpartition(")")[2].split()  # from the third on
        except OSError:
            return None
        user, system, waited_user, waited_system = map(int, fields[11:15])
        return _Stat(user + system, waited_user + waited_system, int(fields[19]), int(fields[20]))

    def _resident_bytes(self, pids: list[int]) -> int:
        own, most = 0, 0
        for pid in pids:
            with suppress(OSError):
                _, resident, shared, *_ = map(int, (self._proc / str(pid) / "statm").read_text().split())
                own, most = own + resident - shared, max(most, shared)
        return (own + most) * self._page

    def _open_fds(self, pid: int) -> int:
        with suppress(OSError):
            return sum(1 for _ in (self._proc / str(pid) / "fd").iterdir())
        return 0

    def _max_fds(self) -> int:
        with suppress(OSError):
            for line in (self._proc / str(self._pid) / "limits").read_text().splitlines():
                if line.startswith("Max open files") and (soft := line.split()[3]).isdigit():
                    return int(soft)
        return 0

    def _boot_time_s(self) -> float:
        with suppress(OSError):
            for line in (self._proc / "stat").read_text().splitlines():
                if line.startswith("btime"):
                    return float(line.split()[1])
        return 0.0


def _gauge(name: str, text: str, value: float) -> Metric:
    return GaugeMetricFamily(f"process_{name}", text, value)
