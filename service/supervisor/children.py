"""The places that processes fill, life after life."""

import array
import fcntl
import math
import os
import termios
from dataclasses import dataclass, field
from multiprocessing.process import BaseProcess

from service.ipc.reports import ModelReport
from service.ipc.transport import PROBE, Channels, Pipe

UNREAD_LIMIT_S = 2.0  # a worker that is not running a batch reads the next message at once
PROBE_INTERVAL_S = 1.0  # so that a worker that stopped while it had nothing to do is found too
BACK_OFF_S = (0.0, 0.2, 1.0, 5.0, 15.0)  # before the first, second, ... restart in a row
LONG_LIFE_S = 30.0  # whoever lived longer starts the row anew


@dataclass(eq=False, slots=True)
class Child:
    """One place that a process fills, life after life."""

    index: int
    process: BaseProcess | None = None
    born_s: float = 0.0
    deaths: int = 0  # in a row, each after a short life
    restart_at_s: float = math.inf

    def plan_restart(self, now_s: float) -> None:
        """Decide when the next life begins."""
        self.deaths = 1 if now_s - self.born_s > LONG_LIFE_S else self.deaths + 1
        self.restart_at_s = now_s + BACK_OFF_S[min(self.deaths, len(BACK_OFF_S)) - 1]


@dataclass(eq=False, slots=True)
class Seat(Child):
    """A worker seat."""

    epoch: int = 0
    up: bool = False
    ever_up: bool = False
    reports: dict[int, ModelReport] = field(default_factory=dict)
    unparsed: bytes = b""
    killed_as: str | None = None  # why we ended it
    unread_since_s: float | None = None
    probed_s: float = 0.0
    last_taken: bytes = b""

    def leaves_unread(self, channels: Channels, now_s: float) -> bool:
        """Whether a message waits in the seat's pipe though the worker has run and taken up nothing for a while.

        An empty pipe of a worker that runs nothing gets a probe now and then, which a live worker reads away.
        """
        pipe, taken = channels.requests[self.index], channels.board.taken[self.index].tobytes()
        idle = channels.board.began_ns[self.index] == 0
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
class ApiPlace(Child):
    """A place for an API process."""

    control: Pipe | None = None


def _readable_bytes(fd: int) -> int:
    """How many bytes wait in a pipe (ioctl FIONREAD)."""
    count = array.array("i", [0])
    fcntl.ioctl(fd, termios.FIONREAD, count)
    return count[0]
