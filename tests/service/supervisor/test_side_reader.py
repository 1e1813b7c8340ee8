"""What is read beside the supervisor is delivered, or why not; nothing is left of the process that read it."""

import os
import resource
import signal
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from service.settings import SettingError
from service.supervisor.reactor import Reactor
from service.supervisor.side_reader import Failure, SideReader
from tests.service.served import DEADLINE_S


class Reading:
    """A reader, the loop that it is in, and what it has delivered."""

    def __init__(self, timeout_s: float = DEADLINE_S) -> None:
        self.reactor, self.delivered = Reactor(), list[object]()
        self.reader = SideReader[object](self.reactor, "the file", timeout_s, (SettingError,))

    def begin(self, call: Callable[[], object]) -> None:
        self.reader.read(call, self.delivered.append)

    def end(self) -> None:
        while self.reader.busy:
            self.reactor.wait(0.01)
            self.reader.look(time.monotonic())


def fail() -> None:
    raise SettingError("it is no key")


def hang() -> None:
    signal.pause()


def large() -> bytes:
    return bytes(1 << 28)


@pytest.mark.parametrize(
    ("call", "delivered"),
    [
        (lambda: {"what": "is there"}, {"what": "is there"}),
        (fail, Failure("it is no key")),
        (lambda: 1 / 0, Failure("the process that reads the file ended with exit code 1")),
        (partial(os._exit, 7), Failure("the process that reads the file ended with exit code 7")),
    ],
    ids=["found", "refused", "crashed", "ended"],
)
def test_what_came_of_it_is_delivered(call: Callable[[], object], delivered: object) -> None:
    reading = Reading()
    reading.begin(call)
    reading.end()
    assert reading.delivered == [delivered]
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)


def test_the_last_that_was_asked_for_meanwhile_follows_one_that_does_not_end() -> None:
    reading = Reading(0.1)
    for call in (hang, lambda: 1, lambda: 2):
        reading.begin(call)
    reading.end()
    assert reading.delivered == [Failure("the process that reads the file was not done within 0.1 s"), 2]


def test_one_that_is_closed_ends_and_none_follows() -> None:
    reading = Reading()
    reading.begin(hang)
    reading.begin(lambda: 1)
    reading.reader.close()
    reading.end()
    assert reading.delivered == [Failure("the process that reads the file ended with exit code -9")]


def test_without_memory_for_what_was_read_it_says_so() -> None:
    reading = Reading()
    reading.begin(large)
    limits = resource.getrlimit(resource.RLIMIT_AS)
    used = int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    resource.setrlimit(resource.RLIMIT_AS, (used + (1 << 26), limits[1]))
    try:
        reading.end()
    finally:
        resource.setrlimit(resource.RLIMIT_AS, limits)
    assert reading.delivered == [Failure("the file cannot be read now: [Errno 12] Cannot allocate memory")]
