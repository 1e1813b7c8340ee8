"""Waits for descriptors, and calls what belongs to those that can be read."""

import os
import selectors
from collections.abc import Callable


class Reactor:
    """Descriptors, and for each what is to be called when it can be read."""

    def __init__(self) -> None:
        self._selector = selectors.DefaultSelector()

    def watch(self, fd: int, callback: Callable[[], object]) -> None:
        """Call this whenever the descriptor can be read, which never blocks from now on."""
        os.set_blocking(fd, False)
        self._selector.register(fd, selectors.EVENT_READ, callback)

    def forget(self, fd: int) -> None:
        """Watch it no more."""
        self._selector.unregister(fd)

    def wait(self, patience_s: float) -> None:
        """Wait until something can be read, or for so long, and call what belongs to it."""
        for key, _ in self._selector.select(patience_s):
            key.data()
