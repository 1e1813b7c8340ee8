"""How long a process waits for cores that others have: that time is none in which it hangs."""

from contextlib import suppress
from pathlib import Path


class CoreWait:
    """How long the threads of processes have waited for a core (the kernel's sched-stats.rst: /proc/PID/schedstat)."""

    def __init__(self, proc: Path = Path("/proc")) -> None:
        self._proc = proc
        self._waited_ns: dict[str, int] = {}  # of each thread, at the last look

    def forget(self) -> None:
        """Begin anew: the next look finds nothing."""
        self._waited_ns = {}

    def look(self, pid: int | None) -> float:
        """Seconds that the thread which waited most has waited since the last look; 0 where the kernel tells nothing.

        A wait counts when it is over, so that it may be longer than the time between two looks.
        """
        before, self._waited_ns = self._waited_ns, {}
        with suppress(OSError, ValueError):  # it has just ended, or there is no descriptor, or no such file
            for thread in (self._proc / str(pid) / "task").iterdir():
                self._waited_ns[thread.name] = int((thread / "schedstat").read_text().split()[1])
        grown = (waited_ns - before.get(thread, waited_ns) for thread, waited_ns in self._waited_ns.items())
        return max(grown, default=0) / 1e9
