"""A pipe between processes."""

import os
from multiprocessing.reduction import DupFd
from typing import Any


class Pipe:
    """Both ends of a pipe that outlives the processes using it; the writer never blocks."""

    def __init__(self, *, packets: bool = False) -> None:
        # O_DIRECT: one read returns one written message, not a run of them (pipe(2), "packet mode").
        self.reader, self.writer = os.pipe2(os.O_CLOEXEC | (os.O_DIRECT if packets else 0))
        os.set_blocking(self.writer, False)

    def __getstate__(self) -> tuple[Any, Any]:
        return DupFd(self.reader), DupFd(self.writer)

    def __setstate__(self, state: tuple[Any, Any]) -> None:
        self.reader, self.writer = (end.detach() for end in state)

    def drain(self) -> None:
        """Discard what lies in the pipe."""
        os.set_blocking(self.reader, False)
        try:
            while os.read(self.reader, 1 << 16):
                pass
        except BlockingIOError:
            pass
        finally:
            os.set_blocking(self.reader, True)

    def close(self) -> None:
        """Close both ends in this process."""
        os.close(self.reader)
        os.close(self.writer)
