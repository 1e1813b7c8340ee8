"""Reads files in a process beside the supervisor, which watches the others meanwhile.

Reading a file can crash the process, and a network mount that does not answer blocks it, even against SIGKILL. So it is
forked without multiprocessing, which would wait for its end when the supervisor exits.
"""

import math
import os
import signal
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Generic, NamedTuple, TypeVar

from service.ipc.shared_memory import SharedObject
from service.pools.countdown import Countdown
from service.pools.reactor import Reactor
from service.pools.signals import ignore_stops, stops_wait
from service.process.logs import log_crash
from service.process.parent_death import die_with_parent
from service.process.shortage import in_words, is_shortage

T = TypeVar("T")


class Failure(NamedTuple):
    """Why nothing was read."""

    reason: str


class Reading(NamedTuple, Generic[T]):
    """What is to be called in the other process, and who hears of its result."""

    call: Callable[[], T]
    deliver: Callable[[T | Failure], None]


class SideReader(Generic[T]):
    """One reading at a time, in so many seconds at most; of those that are asked for meanwhile the last one follows.

    `what` is read, as errors call it; of an exception among `errors` the text is delivered.
    """

    def __init__(self, reactor: Reactor, what: str, timeout_s: float, errors: tuple[type[Exception], ...] = ()) -> None:
        self._reactor, self._what, self._timeout_s, self._errors = reactor, what, timeout_s, errors
        self._pid = 0
        self._patience = Countdown(math.inf)
        self._is_late = False
        self._next: Reading[T] | None = None
        self._killed: set[int] = set()
        self._closed = False

    @property
    def busy(self) -> bool:
        """Whether there is a process that reads, or that could not be ended."""
        return self._pid > 0

    def read(self, call: Callable[[], T], deliver: Callable[[T | Failure], None]) -> None:
        """Call `call` there; `deliver` gets what it returned, or why it returned nothing."""
        if self.busy:
            self._next = Reading(call, deliver)
            return
        try:
            found = SharedObject[T | Failure]()
        except OSError as error:
            deliver(self._not_now(error))
            return
        try:
            self._start(call, found, deliver)
        except (OSError, MemoryError) as error:
            found.close()
            deliver(self._not_now(error))

    def look(self, now_s: float) -> None:
        """End a reading that takes too long, and reap the orphans of those that were killed."""
        self._reap()
        if self._patience.is_over(now_s):
            self._patience, self._is_late = Countdown(math.inf), True
            self._kill()

    def close(self) -> None:
        """End the reading, if there is one, of which nothing is delivered, and begin no other."""
        self._closed, self._next = True, None
        self._kill()

    def _start(
        self, call: Callable[[], T], found: SharedObject[T | Failure], deliver: Callable[[T | Failure], None]
    ) -> None:
        parent_pid = os.getpid()
        with stops_wait():
            pid = os.fork()
            if pid == 0:
                _read(partial(self._try, call), found, parent_pid)
        sentinel = -1
        try:
            sentinel = os.pidfd_open(pid)
            self._reactor.watch(sentinel, partial(self._on_end, sentinel, found, deliver))
        except (OSError, MemoryError):
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            if sentinel >= 0:
                os.close(sentinel)
            raise
        self._pid, self._patience = pid, Countdown(self._timeout_s)

    def _try(self, call: Callable[[], T]) -> T | Failure:
        """In the other process: what the call returns, or why it returns nothing."""
        try:
            return call()
        except self._errors as error:
            return Failure(str(error))
        except Exception as error:
            if not is_shortage(error):
                raise
            return self._not_now(error)

    def _not_now(self, error: Exception) -> Failure:
        return Failure(f"{self._what} cannot be read now: {in_words(error)}")

    def _on_end(self, sentinel: int, found: SharedObject[T | Failure], deliver: Callable[[T | Failure], None]) -> None:
        self._reactor.forget(sentinel)
        os.close(sentinel)
        _, status = os.waitpid(self._pid, 0)
        code, late = os.waitstatus_to_exitcode(status), self._is_late
        if code < 0:
            self._killed.add(self._pid)
        self._pid, self._patience, self._is_late = 0, Countdown(math.inf), False
        result = self._result(found, code, late=late)
        found.close()
        if not self._closed:
            deliver(result)
        if self._next and not self.busy:
            reading, self._next = self._next, None
            self.read(*reading)

    def _result(self, found: SharedObject[T | Failure], code: int, *, late: bool) -> T | Failure:
        if code:
            ended = f"was not done within {self._timeout_s:g} s" if late else f"ended with exit code {code}"
            return Failure(f"the process that reads {self._what} {ended}")
        try:
            return found.load()
        except (OSError, MemoryError) as error:  # there is no memory to map it, or to unpack it
            return self._not_now(error)

    def _reap(self) -> None:
        """Reap the side processes of readers that were killed, whose parent is now process 1 of the container."""
        for group in list(self._killed):
            try:
                while os.waitpid(-group, os.WNOHANG)[0]:
                    pass
            except ChildProcessError:
                self._killed.remove(group)

    def _kill(self) -> None:
        if self._pid:
            with suppress(ProcessLookupError):
                os.kill(self._pid, signal.SIGKILL)


def _read(call: Callable[[], T | Failure], found: SharedObject[T | Failure], parent_pid: int) -> None:
    """All that the process does; it ends here."""
    code = 1
    try:
        _store(call, found, parent_pid)
        code = 0
    finally:
        os._exit(code)


@log_crash
def _store(call: Callable[[], T | Failure], found: SharedObject[T | Failure], parent_pid: int) -> None:
    ignore_stops()
    die_with_parent(parent_pid)
    os.setpgid(0, 0)  # by which `_reap` finds what it leaves
    found.store(call())
