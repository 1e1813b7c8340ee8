"""Waits for descriptors, and calls what belongs to those that can be read."""

import os
import selectors
from collections.abc import Callable
from contextlib import suppress


class Reactor:
    """Descriptors, and for each what is to be called when it can be read."""

    def __init__(self) -> None:
        self._selector = selectors.DefaultSelector()
        self._awaited: set[int] = set()

    def watch(self, fd: int, callback: Callable[[], object]) -> None:
        """Call this whenever the descriptor can be read, which never blocks from now on."""
        os.set_blocking(fd, False)
        self._selector.register(fd, selectors.EVENT_READ, callback)

    def forget(self, fd: int) -> None:
        """Watch this descriptor no more."""
        self._selector.unregister(fd)

    def await_room(self, fd: int) -> None:
        """Let the next wait end, too, when this descriptor can be written to."""
        with suppress(OSError):  # the kernel has no room for it: what waits is written when the wait ends by itself
            self._selector.register(fd, selectors.EVENT_WRITE, _do_nothing)
            self._awaited.add(fd)

    def wait(self, patience_s: float) -> None:
        """Wait until something can be read, or for so long, and call what belongs to it."""
        ready = self._selector.select(patience_s)
        for fd in self._awaited:
            self._selector.unregister(fd)
        self._awaited.clear()
        for key, _ in ready:
            key.data()


def _do_nothing() -> None:
    """Called when a descriptor has room: what waited for that is written after each wait in any case."""
