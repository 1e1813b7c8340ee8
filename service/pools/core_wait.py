"""How long a process waits for a core that others have: that time is none in which it hangs."""

from pathlib import Path
from typing import NamedTuple


class _Scheduling(NamedTuple):
    """What the kernel tells of a thread (sched-stats.rst, proc_pid_stat(5)); times in ns since its start."""

    is_runnable: bool
    ran_ns: int
    waited_ns: int


class CoreWait:
    """For which part of the time between looks the first thread of a process waited for a core.

    Others do not count: what they wait for is no reason for the first to stand still.
    """

    def __init__(self, proc: Path = Path("/proc")) -> None:
        self._proc = proc
        self._seen: _Scheduling | None = None

    def look(self, pid: int, gap_s: float) -> float:
        """Seconds of the time since the last look; 0 at the first one, and where the kernel tells nothing."""
        before, self._seen = self._seen, self._read(pid)
        if before is None or self._seen is None:
            return 0.0
        if self._seen.is_runnable and self._seen.ran_ns == before.ran_ns:
            return gap_s  # it waits now, and that is counted once it is over
        return min(gap_s, (self._seen.waited_ns - before.waited_ns) / 1e9)

    def _read(self, pid: int) -> _Scheduling | None:
        folder = self._proc / str(pid) / "task" / str(pid)
        try:
            state = (folder / "stat").read_text().rpartition(") ")[2][0]
            ran_ns, waited_ns, _ = map(int, (folder / "schedstat").read_text().split())
        except (OSError, ValueError, IndexError):  # it has just ended, or there is no descriptor, or no such file
            return None
        return _Scheduling(state == "R", ran_ns, waited_ns)
