"""The worker and API processes as the supervisor sees them, life after life."""

import array
import fcntl
import math
import termios
from dataclasses import dataclass, field
from multiprocessing.process import BaseProcess

from service.ipc.channels import Channels
from service.ipc.control import ControlReader, ControlWriter
from service.ipc.messages import PROBE
from service.ipc.pipe import Pipe, write_some
from service.ipc.reports import ModelReport
from service.ipc.shared_state import SharedState
from service.policy import (
    BACK_OFF_S,
    EXCUSED_S,
    LONG_LIFE_S,
    PROBE_INTERVAL_S,
    SILENCE_LIMIT_S,
    UNREAD_LIMIT_S,
)
from service.pools.core_wait import CoreWait
from service.pools.countdown import Countdown, seconds_awake
from service.pools.model_set import ModelSet


@dataclass(eq=False, slots=True)
class Child:
    """One place that a process fills, life after life.

    Attributes:
        up_s: since when it has been up in this life.
        deaths: in a row, each after a short time up; a start that failed is one.
        killed_as: why the supervisor ended it, if it did.

    """

    index: int
    process: BaseProcess | None = None
    born_s: float = 0.0
    up_s: float = math.inf
    deaths: int = 0
    restart_at_s: float = math.inf
    ever_up: bool = False
    killed_as: str | None = None

    @property
    def pid(self) -> int | None:
        """Of its process, if there is one."""
        return self.process.pid if self.process else None

    def begin_life(self, now_s: float) -> None:
        """Forget what was so in the life before."""
        self.born_s, self.up_s, self.restart_at_s, self.killed_as = now_s, math.inf, math.inf, None

    def plan_restart(self, now_s: float) -> None:
        """Decide when the next life begins."""
        self.deaths = 1 if now_s - self.up_s > LONG_LIFE_S else self.deaths + 1
        self.restart_at_s = now_s + BACK_OFF_S[min(self.deaths, len(BACK_OFF_S)) - 1]


@dataclass(eq=False, slots=True)
class StillWatch:
    """For how long a value has stood still, as far as the supervisor was awake to notice and its process had a core."""

    value: int | bytes | None = 0
    still_s: float = 0.0
    excused_s: float = 0.0
    looked_s: float = 0.0
    core_wait: CoreWait = field(default_factory=CoreWait)

    def look(self, value: int | bytes | None, now_s: float, pid: int | None = None) -> float:
        """Seconds for which it has been this value.

        None stands for no work. The time that the process `pid` waited for a core is left out, up to EXCUSED_S.
        """
        gap_s, self.looked_s = now_s - self.looked_s, now_s
        waited_s = 0.0 if value is None or pid is None else self.core_wait.look(pid, gap_s)
        if value != self.value:
            self.value, self.still_s, self.excused_s = value, 0.0, 0.0
        elif gap_s > 0:
            counted_s = seconds_awake(gap_s)
            excused_s = counted_s * waited_s / gap_s if self.excused_s < EXCUSED_S else 0.0
            self.excused_s += excused_s
            self.still_s += counted_s - excused_s
        return self.still_s


def _watch_threads() -> tuple[StillWatch, StillWatch]:
    """One for each thread of a worker."""
    return StillWatch(), StillWatch()


@dataclass(eq=False, slots=True)
class WorkerChild(Child):
    """A seat for a worker.

    Attributes:
        models: what its worker loads; None if the seat is free.
        wanted: how many of these it loads at its start.
        loading: how long it may take for that.
        start_s: how long its last start took.
        lacks_default: the last that was heard of the default model there is that it could not be loaded.

    """

    models: ModelSet | None = None
    wanted: int = 0
    loading: Countdown = field(default_factory=lambda: Countdown(math.inf))
    epoch: int = 0
    up: bool = False
    start_s: float = 0.0
    lacks_default: bool = False
    reports: dict[int, ModelReport] = field(default_factory=dict)
    unparsed: bytes = b""
    unread: tuple[StillWatch, StillWatch] = field(default_factory=_watch_threads)
    running: tuple[StillWatch, StillWatch] = field(default_factory=_watch_threads)
    probed_s: float = 0.0

    def begin_life(self, now_s: float) -> None:
        """Forget what was so in the life before."""
        Child.begin_life(self, now_s)
        self.epoch += 1
        self.reports, self.unparsed, self.up = {}, b"", False
        self.unread, self.running = _watch_threads(), _watch_threads()

    @property
    def _pids(self) -> tuple[int | None, None]:
        """Of the process whose first thread may wait for a core; the express thread has precedence."""
        return self.pid, None

    def free(self) -> None:
        """Leave the seat empty until it is given other models."""
        self.models, self.deaths, self.restart_at_s, self.ever_up = None, 0, math.inf, False

    def is_hung(self, shared_state: SharedState, now_s: float) -> bool:
        """Whether a running batch of either thread takes longer than it ever should."""
        hung = False
        for watch, row, pid in zip(self.running, shared_state.rows_of(self.index), self._pids, strict=True):
            began_ns = int(shared_state.began_ns[row]) or None
            ran_s = watch.look(began_ns, now_s, pid)
            hung |= began_ns is not None and ran_s > int(shared_state.limit_ns[row]) / 1e9
        return hung

    def leaves_unread(self, channels: Channels, now_s: float) -> bool:
        """Whether a message waits in a pipe of it though that thread has run and read nothing for a while.

        The empty pipe of a worker that runs nothing gets a probe now and then, which a live worker reads away.
        """
        shared_state, pipe = channels.shared_state, channels.requests[self.index]
        rows = shared_state.rows_of(self.index)
        hung = False
        for watch, row, pid in zip(self.unread, rows, self._pids, strict=True):
            taken = _taken_beside_unread(channels, row)
            hung |= watch.look(taken, now_s, pid) > UNREAD_LIMIT_S and taken is not None
        idle = shared_state.began_ns[self.index] == 0 and not _readable_bytes(pipe.reader)
        if idle and now_s - self.probed_s > PROBE_INTERVAL_S:
            self.probed_s = now_s
            write_some(pipe.writer, PROBE)  # if it has become full meanwhile, there is something to be read
        return hung


@dataclass(eq=False, slots=True)
class ApiChild(Child):
    """An API process, the pipe through which it hears from the supervisor, and the reader of what it tells.

    Attributes:
        beats: how long its heartbeat has been missing.
        taken, released: the newest set of models that it serves, and the newest beside which it has nothing of others.

    """

    control: Pipe | None = None
    writer: ControlWriter | None = None
    reports: ControlReader | None = None
    beats: StillWatch = field(default_factory=StillWatch)
    taken: int = -1
    released: int = -1

    def is_silent(self, beat: int, now_s: float) -> bool:
        """Whether its heartbeat, a count, has stood still for too long."""
        if beat != self.beats.value:
            self.ever_up, self.up_s = True, min(self.up_s, now_s)
        return self.beats.look(beat, now_s, self.pid) > SILENCE_LIMIT_S

    def begin_life(self, now_s: float) -> None:
        """Forget what was so in the life before."""
        Child.begin_life(self, now_s)
        self.beats = StillWatch(self.beats.value, looked_s=now_s)
        self.taken = self.released = -1

    def open_control(self) -> Pipe:
        """A new pipe for a new life."""
        self.control = Pipe()
        self.writer = ControlWriter(self.control)
        return self.control

    def close_control(self) -> None:
        """Close the pipe of the life that has ended."""
        if self.control:
            self.control.close()
        self.control = self.writer = None


def _taken_beside_unread(channels: Channels, row: int) -> bytes | None:
    """What an idle thread of a worker has taken up if a message waits in its pipe; None if it runs or none waits."""
    if channels.shared_state.began_ns[row] or not _readable_bytes(channels.requests[row].reader):
        return None
    taken: bytes = channels.shared_state.taken[row].tobytes()
    return taken


def _readable_bytes(fd: int) -> int:
    """How many bytes wait in a pipe (ioctl FIONREAD)."""
    count = array.array("i", [0])
    fcntl.ioctl(fd, termios.FIONREAD, count)
    return count[0]
