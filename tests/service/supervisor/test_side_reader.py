"""What is read beside the supervisor is delivered, or why not; nothing is left of the process that read it."""

import ctypes
import errno
import os
import resource
import signal
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from service.config.settings import SettingError
from service.pools.reactor import Reactor
from service.process.side_process import side_process
from service.supervisor.side_reader import Failure, SideReader
from tests.service.served import DEADLINE_S, until


class Reading:
    """A reader, the loop that it is in, and what it has delivered."""

    def __init__(self, timeout_s: float = DEADLINE_S, reactor: Reactor | None = None) -> None:
        self.reactor, self.delivered = reactor or Reactor(), list[object]()
        self.reader = SideReader[object](self.reactor, "the file", timeout_s, (SettingError,))

    def begin(self, call: Callable[[], object]) -> None:
        self.reader.read(call, self.delivered.append)

    def end(self) -> None:
        while self.reader.busy:
            self.reactor.wait(0.01)
            self.reader.look(time.monotonic())


def children() -> set[str]:
    """The processes that this thread has started, and what those have left, ended or not (proc(5))."""
    return set(Path("/proc/thread-self/children").read_text().split())


def fail() -> None:
    raise SettingError("it is no key")


def lack() -> None:
    raise MemoryError


def hang() -> None:
    signal.pause()


def hang_beside() -> None:
    with side_process("fork", lambda _: signal.pause()) as (_, reader):
        reader.recv()


def large() -> bytes:
    return bytes(1 << 28)


@pytest.mark.parametrize(
    ("call", "delivered"),
    [
        (lambda: {"what": "is there"}, {"what": "is there"}),
        (fail, Failure("it is no key")),
        (lambda: 1 / 0, Failure("the process that reads the file ended with exit code 1")),
        (lack, Failure("the file cannot be read now: out of memory")),
        (partial(os._exit, 7), Failure("the process that reads the file ended with exit code 7")),
    ],
    ids=["found", "refused", "crashed", "short", "ended"],
)
def test_what_came_of_it_is_delivered(call: Callable[[], object], delivered: object) -> None:
    reading, before = Reading(), children()
    reading.begin(call)
    reading.end()
    assert reading.delivered == [delivered]
    assert children() <= before


def test_the_last_that_was_asked_for_meanwhile_follows_one_that_does_not_end() -> None:
    reading = Reading(2)
    for call in (hang, lambda: 1, lambda: 2):
        reading.begin(call)
    reading.end()
    assert reading.delivered == [Failure("the process that reads the file was not done within 2 s"), 2]


def test_the_time_for_which_the_whole_machine_stood_still_is_not_the_readers() -> None:
    reading, (go_on, tell) = Reading(60), os.pipe()
    reading.begin(lambda: os.read(go_on, 1))
    reading.reader.look(time.monotonic() + 1000)
    os.write(tell, b"1")
    reading.end()
    for fd in (go_on, tell):
        os.close(fd)
    assert reading.delivered == [b"1"]


@pytest.fixture
def process_1() -> Iterator[None]:
    """This process becomes the parent of what its children leave, as the first one of a container does (prctl(2))."""
    prctl, set_child_subreaper = ctypes.CDLL(None).prctl, 36
    prctl(set_child_subreaper, 1)
    yield
    prctl(set_child_subreaper, 0)


@pytest.mark.usefixtures("process_1")
def test_nothing_is_left_of_what_a_late_one_had_started() -> None:
    reading, before = Reading(0.5), children()
    reading.begin(hang_beside)
    reading.end()
    assert reading.delivered == [Failure("the process that reads the file was not done within 0.5 s")]

    def is_alone() -> bool:
        reading.reader.look(time.monotonic())
        return children() <= before

    until(is_alone, "its end")


def test_of_one_that_is_closed_nothing_is_delivered_and_none_follows() -> None:
    reading = Reading()
    reading.begin(hang)
    reading.begin(lambda: 1)
    reading.reader.close()
    reading.end()
    assert reading.delivered == []


class FullReactor(Reactor):
    """The kernel watches no more for this user (fs.epoll.max_user_watches)."""

    def watch(self, fd: int, callback: Callable[[], object]) -> None:
        del fd, callback
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_where_its_end_would_not_be_noticed_it_is_ended_at_once() -> None:
    reading, before, open_before = Reading(reactor=FullReactor()), children(), set(Path("/proc/self/fd").iterdir())
    reading.begin(hang)
    assert reading.delivered == [Failure("the file cannot be read now: [Errno 28] No space left on device")]
    assert not reading.reader.busy
    assert children() <= before
    assert set(Path("/proc/self/fd").iterdir()) <= open_before


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


def test_without_a_descriptor_left_it_says_so_and_reads_later() -> None:
    reading, limits = Reading(), resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, limits[1]))
    try:
        reading.begin(lambda: 1)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    assert reading.delivered == [Failure("the file cannot be read now: [Errno 24] Too many open files")]
    reading.begin(lambda: 2)
    reading.end()
    assert reading.delivered[1:] == [2]
