"""Connections whose clients have left, noticed without reading from them."""

import asyncio
import contextlib
import select
from collections.abc import Callable


class HangupWatch:
    """Tells when a connection is over in both directions: its client has reset it.

    An event loop hears nothing of a connection whose client has ended its sending side: there is nothing more to read.
    """

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._on_hangup: dict[int, Callable[[], None]] = {}
        asyncio.get_running_loop().add_reader(self._epoll.fileno(), self._look)

    def watch(self, fd: int, on_hangup: Callable[[], None]) -> None:
        """Call `on_hangup` when the connection of this descriptor is over, unless it is forgotten before."""
        self._on_hangup[fd] = on_hangup
        self._epoll.register(fd, 0)  # of errors and hang-ups it tells always (epoll_ctl(2))

    def forget(self, fd: int) -> None:
        """Watch this one no longer, if it is watched."""
        if self._on_hangup.pop(fd, None):
            with contextlib.suppress(OSError):  # closed already
                self._epoll.unregister(fd)

    def _look(self) -> None:
        for fd, _ in self._epoll.poll(0):
            on_hangup = self._on_hangup[fd]
            self.forget(fd)
            on_hangup()
