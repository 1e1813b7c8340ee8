"""Standard error as the log: a reader that stands still costs lines, which are counted, and requests a moment."""

import os
import stat
import time
from collections.abc import Callable
from select import PIPE_BUF, POLLOUT, poll

from service.policy import LOG_PATIENCE_S, LOG_PAUSE_S

STANDARD_ERROR = 2


class LogStream:
    """Writes whole lines to a descriptor; `tell` hears how many were lost, once others can be written again.

    A write waits for room for LOG_PATIENCE_S, and after one that found none in vain no other does for LOG_PAUSE_S.
    """

    def __init__(self, tell: Callable[[int], None], fd: int = STANDARD_ERROR) -> None:
        self._tell = tell
        self._fd, self._never_waits = _without_waiting(fd)
        self._room = poll()
        self._room.register(self._fd, POLLOUT)
        self._lost = 0
        self._is_torn = False  # the last line that was written has no end
        self._patient_from_s = 0.0

    def write(self, text: str) -> None:
        """Write a text of whole lines: the method that `logging.StreamHandler` calls."""
        self.write_lines(text.encode("utf-8", "backslashreplace"))

    def write_lines(self, lines: bytes) -> None:
        """Write these lines, or lose them."""
        if not self._write(b"\n" + lines if self._is_torn else lines):
            self._lost += lines.count(b"\n")
        elif self._lost:
            lost, self._lost = self._lost, 0
            self._tell(lost)

    def _write(self, data: bytes) -> bool:
        rest, is_patient = data, False
        try:
            if self._never_waits:  # there nearly always is room: to ask before would cost as much as to write
                rest = self._put(rest)
            began_s = time.monotonic() if rest else 0.0
            is_patient = began_s >= self._patient_from_s
            ends_s = began_s + (LOG_PATIENCE_S if is_patient else 0.0)
            while rest and self._room.poll(1000 * (left_s := max(0.0, ends_s - time.monotonic()))):
                before, rest = rest, self._put(rest)
                if rest is before and not left_s:  # another process was quicker
                    break
        except OSError:  # the disk is full, or the reader gone
            pass
        self._is_torn = bool(rest) and (self._is_torn or len(rest) < len(data))
        if rest and is_patient:
            self._patient_from_s = time.monotonic() + LOG_PAUSE_S
        return not rest

    def _put(self, data: bytes) -> bytes:
        """Write what there is room for; what is left."""
        try:
            return data[os.write(self._fd, data[:PIPE_BUF]) :]
        except BlockingIOError:
            return data


def _without_waiting(fd: int) -> tuple[int, bool]:
    """The same pipe or terminal opened anew so that a write never waits, and whether it never does.

    Others that have it open still wait. Where it cannot be opened, as in the container of another user, or is a socket,
    the room that `poll` tells of has to do: a terminal may have less than that for a line with its end, and hold up the
    writer until somebody reads.
    """
    mode = os.fstat(fd).st_mode
    if stat.S_ISFIFO(mode) or stat.S_ISCHR(mode):
        try:
            return os.open(f"/proc/self/fd/{fd}", os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC), True
        except OSError:
            pass
    return fd, stat.S_ISREG(mode)
