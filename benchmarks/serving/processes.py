"""A server's processes: started as a session of their own, measured as a whole from /proc, ended as a whole."""

import contextlib
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

STOP_S = 15.0  # time from SIGTERM until a server is killed
_ENDS = signal.SIGTERM, signal.SIGHUP
_GONE_S = 0.01  # time between two looks at whether killed processes are gone
_PROC = Path("/proc")
_TICK_S = 1 / os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Memory:
    """Resident memory of all processes, in MiB; `pss` divides what is shared among those that share it."""

    processes: int
    rss_mib: float
    pss_mib: float


class Session:
    """All processes of a session (setsid(2)), however deep, orphans too."""

    def __init__(self, leader: int) -> None:
        self.leader = leader

    def pids(self) -> list[int]:
        """Those alive now; zombies are not."""
        found = []
        for folder in _PROC.iterdir():
            with contextlib.suppress(ValueError, OSError):
                fields = _stat(pid := int(folder.name))
                if int(fields[3]) == self.leader and fields[0] != "Z":
                    found.append(pid)
        return found

    def cpu_s(self) -> float:
        """CPU time that the processes and their ended children have used."""
        total = 0.0
        for pid in self.pids():
            with contextlib.suppress(OSError):
                total += time.clock_gettime(_cpu_clock(pid)) + sum(map(int, _stat(pid)[13:15])) * _TICK_S
        return total

    def memory(self) -> Memory:
        """What the processes occupy now."""
        sums = {"Rss:": 0, "Pss:": 0}
        pids = self.pids()
        for pid in pids:
            with contextlib.suppress(OSError):
                for line in (_PROC / str(pid) / "smaps_rollup").read_text().splitlines()[1:]:
                    key, kib, *_ = line.split()
                    if key in sums:
                        sums[key] += int(kib)
        return Memory(len(pids), sums["Rss:"] / 1024, sums["Pss:"] / 1024)

    def stop(self) -> None:
        """Stop all of it until it is resumed."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let all of it run again."""
        self._signal(signal.SIGCONT)

    def kill(self) -> None:
        """Kill what is left, and wait until it is gone: the next server is to have the machine for itself."""
        while self._signal(signal.SIGKILL):
            time.sleep(_GONE_S)

    def _signal(self, number: signal.Signals) -> int:
        """Send a signal to all of it; how many processes that are."""
        pids = self.pids()
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)
        return len(pids)


@contextlib.contextmanager
def running_session(command: list[str], environment: dict[str, str], folder: Path, log: Path) -> Iterator[Session]:
    """Start a command as the leader of a new session in `folder`; end all of the session with SIGTERM, then SIGKILL.

    It is ended, too, if this program gets SIGTERM or SIGHUP meanwhile; a signal while it ends has it killed at once.
    """
    with _ends_raise():
        with log.open("wb") as file:
            leader = subprocess.Popen(
                command,
                env=os.environ | environment,
                cwd=folder,
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        session = Session(leader.pid)
        try:
            yield session
        finally:
            try:
                session.resume()
                leader.terminate()
                with contextlib.suppress(subprocess.TimeoutExpired):
                    leader.wait(STOP_S)
            finally:
                session.kill()  # stock LitServe leaves orphans
                leader.wait()


@contextlib.contextmanager
def _ends_raise() -> Iterator[None]:
    """Have what would end this program at once raise SystemExit meanwhile; what is ignored (nohup) stays so."""
    before = {number: signal.getsignal(number) for number in _ENDS}
    for number, handler in before.items():
        if handler is signal.SIG_DFL:
            signal.signal(number, lambda number, _: sys.exit(128 + number))
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@dataclass(frozen=True, slots=True)
class Usage:
    """CPU time that a session used, and the cores that neither it nor this program with its children used.

    `others_cores` is 0 on an undisturbed machine.
    """

    cpu_s: float
    others_cores: float


class Meter:
    """Reads how much CPU time was used since it was made."""

    def __init__(self, session: Session) -> None:
        self._session, self._began = session, time.perf_counter()
        self._used_s, self._own_s, self._busy_s = session.cpu_s(), _own_cpu_s(), _machine_busy_s()

    def read(self) -> Usage:
        """The usage until now."""
        used, own = self._session.cpu_s() - self._used_s, _own_cpu_s() - self._own_s
        others = _machine_busy_s() - self._busy_s - used - own
        return Usage(used, max(0.0, others / (time.perf_counter() - self._began)))


def _own_cpu_s() -> float:
    usages = map(resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def _machine_busy_s() -> float:
    """CPU time that all of the machine's cores have been busy or stolen since boot."""
    user, nice, system, _idle, _iowait, irq, softirq, steal = (
        int(field) for field in (_PROC / "stat").read_text().split(maxsplit=9)[1:9]
    )
    return (user + nice + system + irq + softirq + steal) * _TICK_S


def _stat(pid: int) -> list[str]:
    """Fields of /proc/PID/stat from the third, `state`, on: what comes before may hold blanks."""
    return (_PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()


def _cpu_clock(pid: int) -> int:
    """The clock of a process's CPU time, to the nanosecond; as clock_getcpuclockid(3) makes it."""
    return (~pid << 3) | 2
