"""The worker and API processes as the supervisor sees them, life after life."""

import array
import fcntl
import math
import os
import termios
from dataclasses import dataclass, field
from multiprocessing.process import BaseProcess

from service.ipc.channels import Channels
from service.ipc.messages import PROBE
from service.ipc.pipe import Pipe
from service.ipc.reports import ModelReport
from service.policy import BACK_OFF_S, LONG_LIFE_S, PROBE_INTERVAL_S, UNREAD_LIMIT_S


@dataclass(eq=False, slots=True)
class Child:
    """One place that a process fills, life after life. `deaths`: in a row, each after a short life."""

    index: int
    process: BaseProcess | None = None
    born_s: float = 0.0
    deaths: int = 0
    restart_at_s: float = math.inf

    def plan_restart(self, now_s: float) -> None:
        """Decide when the next life begins."""
        self.deaths = 1 if now_s - self.born_s > LONG_LIFE_S else self.deaths + 1
        self.restart_at_s = now_s + BACK_OFF_S[min(self.deaths, len(BACK_OFF_S)) - 1]


@dataclass(eq=False, slots=True)
class WorkerChild(Child):
    """A worker. `killed_as`: why the supervisor ended it, if it did."""

    epoch: int = 0
    up: bool = False
    ever_up: bool = False
    reports: dict[int, ModelReport] = field(default_factory=dict)
    unparsed: bytes = b""
    killed_as: str | None = None
    unread_since_s: float | None = None
    probed_s: float = 0.0
    last_taken: bytes = b""

    def begin_life(self, now_s: float) -> None:
        """Forget what was so in the life before."""
        self.epoch += 1
        self.born_s, self.restart_at_s = now_s, math.inf
        self.reports, self.unparsed, self.killed_as, self.unread_since_s = {}, b"", None, None

    def leaves_unread(self, channels: Channels, now_s: float) -> bool:
        """Whether a message waits in its pipe though the worker has run and read nothing for a while.

        The empty pipe of a worker that runs nothing gets a probe now and then, which a live worker reads away.
        """
        shared_state, pipe = channels.shared_state, channels.requests[self.index]
        taken, idle = shared_state.taken[self.index].tobytes(), shared_state.began_ns[self.index] == 0
        waits = idle and _readable_bytes(pipe.reader) > 0
        if idle and not waits and now_s - self.probed_s > PROBE_INTERVAL_S:
            self.probed_s = now_s
            os.write(pipe.writer, PROBE)
        if not waits or taken != self.last_taken:
            self.unread_since_s, self.last_taken = None, taken
        elif self.unread_since_s is None:
            self.unread_since_s = now_s
        return self.unread_since_s is not None and now_s - self.unread_since_s > UNREAD_LIMIT_S


@dataclass(eq=False, slots=True)
class ApiChild(Child):
    """An API process, and the pipe through which it hears from the supervisor."""

    control: Pipe | None = None


def _readable_bytes(fd: int) -> int:
    """How many bytes wait in a pipe (ioctl FIONREAD)."""
    count = array.array("i", [0])
    fcntl.ioctl(fd, termios.FIONREAD, count)
    return count[0]
