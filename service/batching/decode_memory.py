"""A bound on the memory that decoding takes: `--decode-memory`."""

import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager

from models.images.errors import ImageTooLarge


class DecodeMemory:
    """The memory that all decoders of a process may take together; what does not fit yet waits for its turn."""

    def __init__(self, total_bytes: int) -> None:
        self._total = self._left = total_bytes
        self._returned = threading.Condition()
        self.waiting: deque[object] = deque()
        """Those for which there is not enough yet: the first gets what comes back, however small the others are."""
        self.holders = 0
        """How many hold some of it now."""

    @contextmanager
    def taken(self, size: int) -> Iterator[None]:
        """Hold so many bytes; ImageTooLarge if there will never be as many."""
        if size > self._total:
            raise ImageTooLarge(
                f"decoding it takes {size >> 20} MiB of memory, at most {self._total >> 20} are allowed"
            )
        with self._returned:
            if self.waiting or self._left < size:
                turn = object()
                self.waiting.append(turn)
                self._returned.wait_for(lambda: self.waiting[0] is turn and self._left >= size)
                self.waiting.popleft()
                self._returned.notify_all()  # there may be enough for the next one, too
            self._left -= size
            self.holders += 1
        try:
            yield
        finally:
            with self._returned:
                self._left += size
                self.holders -= 1
                self._returned.notify_all()
