"""What is the same for workers and API processes: how they are started, buried and started again."""

import math
import signal
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from multiprocessing.process import BaseProcess
from typing import ClassVar, Generic, TypeVar

import structlog

from models.machine.cgroup import count_oom_kills
from service.ipc.channels import Channels
from service.metrics.metrics import Metrics
from service.policy import FIRST_STARTS, OOM_KILL_KEPT_S
from service.pools.children import Child
from service.pools.launcher import Launcher
from service.pools.reactor import Reactor
from service.process.shortage import in_words

log = structlog.get_logger()

C = TypeVar("C", bound=Child)


class OomKills:
    """Tells whether a process that died was killed for want of memory."""

    def __init__(self) -> None:
        self._counted = count_oom_kills()
        self._unexplained_s: list[float] = []  # when each kill was seen that has explained no death yet

    def explain(self, code: int | None) -> bool:
        """Whether it is the reason for this exit code, of a process that has just ended; one kill ends one process."""
        before, self._counted, now_s = self._counted, count_oom_kills(), time.monotonic()
        recent = [seen_s for seen_s in self._unexplained_s if now_s - seen_s < OOM_KILL_KEPT_S]
        self._unexplained_s = recent + [now_s] * (self._counted - before)
        if code != -signal.SIGKILL or not self._unexplained_s:
            return False
        del self._unexplained_s[0]
        return True


@dataclass(frozen=True, slots=True)
class PoolContext:
    """What all pools work with; `give_up` hears why the server cannot go on."""

    launcher: Launcher
    channels: Channels
    metrics: Metrics
    reactor: Reactor
    give_up: Callable[[str], None]
    oom_kills: OomKills = field(default_factory=OomKills)


class ProcessPool(ABC, Generic[C]):
    """Places that processes of one kind fill: each is started, and, once it has ended, another after a while.

    A process that cannot be started now is one that died at once.
    """

    noun: ClassVar[str]
    """What such a process is called in the log."""
    key: ClassVar[str]
    """The field of a log record that holds its number."""

    def __init__(self, children: Sequence[C], context: PoolContext) -> None:
        self.children = children
        self._launcher, self._channels, self._metrics = context.launcher, context.channels, context.metrics
        self._reactor, self._oom_kills, self._give_up = context.reactor, context.oom_kills, context.give_up
        self._closing = False

    @property
    def restart_at_s(self) -> float:
        """When the next start is due."""
        return min(child.restart_at_s for child in self.children)

    @property
    def alive(self) -> bool:
        """Whether there is a process."""
        return any(child.process for child in self.children)

    def start_all(self) -> None:
        """Start a process in each place."""
        for child in self.children:
            self._start(child)

    def start_due(self, now_s: float) -> None:
        """Start those whose time has come."""
        for child in self.children:
            if now_s >= child.restart_at_s:
                self._start(child)

    def close(self) -> None:
        """Start none any more."""
        self._closing = True
        for child in self.children:
            child.restart_at_s = math.inf

    def kill_all(self) -> None:
        """Kill every process."""
        for child in self.children:
            if child.process:
                child.process.kill()

    @abstractmethod
    def _launch(self, child: C) -> BaseProcess:
        """Make the process."""

    @abstractmethod
    def _on_end(self, child: C) -> None:
        """The process has ended."""

    def _start(self, child: C) -> None:
        child.begin_life(time.monotonic())
        try:
            child.process = self._launch(child)
            self._reactor.watch(child.process.sentinel, partial(self._on_end, child))
        except (OSError, RuntimeError, MemoryError) as error:
            log.error(f"{self.noun} not started", **self._about(child), why=in_words(error))
            if child.process:
                _end(child)
            self._plan_restart(child)
            return
        log.info(f"{self.noun} started", **self._about(child), pid=child.process.pid)

    def _plan_restart(self, child: C) -> None:
        """Start another in its place later, or give up if none of them has ever been up."""
        if self._closing:
            return
        child.plan_restart(time.monotonic())
        if child.deaths >= FIRST_STARTS and not any(other.ever_up for other in self.children):
            self._give_up(f"{self.noun}: all die before they are ready; see the errors above")

    def _reap(self, child: C) -> int | None:
        """Forget a process that has ended, or has only closed the pipe by which its end is noticed; its exit code."""
        assert child.process is not None
        self._reactor.forget(child.process.sentinel)
        return _end(child)

    def _about(self, child: C) -> dict[str, int]:
        return {self.key: child.index}

    def _reason(self, child: C, code: int | None) -> str:
        """Why it ended: exit, hang or oom."""
        return child.killed_as or ("oom" if self._oom_kills.explain(code) else "exit")

    def _kill_hung(self, child: C, why: str) -> None:
        if child.process and not child.killed_as:
            log.error(f"{self.noun} hangs", **self._about(child), pid=child.process.pid, why=why)
            child.killed_as = "hang"
            child.process.kill()


def _end(child: Child) -> int | None:
    """Kill and join a child's process; its exit code, which one that has ended keeps."""
    process = child.process
    assert process is not None
    process.kill()
    process.join()
    code = process.exitcode
    process.close()
    child.process = None
    return code
