"""The signals that stop the server or have it reload: the supervisor reads them in its loop, its children get none.

A terminal, systemd and `kill -- -GROUP` signal every process at once. If workers and API processes heeded that, what
they hold would be lost; so they leave the end to the supervisor.
"""

import signal
import socket
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager

STOPS = (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT)
RELOAD = signal.SIGHUP  # by custom of services without a terminal
HEEDED = (*STOPS, RELOAD)
AT_ONCE = signal.SIGQUIT  # by custom the way out that waits for nothing


class SignalReader:
    """The signals that have come: a handler of Python's runs between any two instructions, so all it does is note them.

    `fd` can be read when one has. A signal for whose notice the kernel had no memory is noted all the same.
    """

    def __init__(self) -> None:
        self._come: deque[signal.Signals] = deque()
        self._reader, self._writer = socket.socketpair()
        self._reader.setblocking(False)
        self._writer.setblocking(False)
        signal.set_wakeup_fd(self._writer.fileno(), warn_on_full_buffer=False)
        for number in HEEDED:
            signal.signal(number, lambda number, _: self._come.append(signal.Signals(number)))
        self.fd = self._reader.fileno()

    def clear(self) -> None:
        """Read the notices."""
        self._reader.recv(64)

    def take(self) -> Iterator[signal.Signals]:
        """Each that has come since."""
        while self._come:
            yield self._come.popleft()


@contextmanager
def stops_wait() -> Iterator[None]:
    """What stops the server waits meanwhile; a process that is started meanwhile is born with these signals blocked."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, HEEDED)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def ignore_stops() -> None:
    """Leave the end to the supervisor, in a process that was started while `stops_wait`."""
    signal.set_wakeup_fd(-1)  # of a forked one, which would tell the supervisor of its own signals
    for number in HEEDED:
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, HEEDED)
