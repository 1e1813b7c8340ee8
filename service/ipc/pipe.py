"""A pipe between processes."""

import errno
import os
import select
import time

_MEMORY_PAUSE_S = 0.01  # until the kernel is asked for memory again


def write_some(fd: int, data: bytes | bytearray) -> int | None:
    """Write as much to a pipe, which never blocks, as there is room for now; how many bytes that was.

    None if the kernel has no memory for it now, which a pipe takes as it fills: that there is room is then no news.
    """
    try:
        return os.write(fd, data)
    except BlockingIOError:
        return 0
    except OSError as error:
        if error.errno != errno.ENOMEM:
            raise
        return None


class Pipe:
    """Both ends of a pipe that outlives the processes using it; a write to its descriptor never blocks."""

    def __init__(self, *, packets: bool = False) -> None:
        # O_DIRECT: one read returns one written message, not a run of them (pipe(2), "packet mode").
        self.reader, self.writer = os.pipe2(os.O_CLOEXEC | (os.O_DIRECT if packets else 0))
        os.set_blocking(self.writer, False)

    def write(self, data: bytes) -> None:
        """Write all of it, and wait for room if need be; for the only writer."""
        room = select.poll()  # `select` itself takes no descriptor above 1023
        room.register(self.writer, select.POLLOUT)
        while data:
            room.poll()
            written = write_some(self.writer, data)
            if written is None:
                time.sleep(_MEMORY_PAUSE_S)
            data = data[written or 0 :]

    def drain(self) -> None:
        """Discard what lies in the pipe."""
        blocking = os.get_blocking(self.reader)
        os.set_blocking(self.reader, False)
        try:
            while os.read(self.reader, 1 << 16):
                pass
        except BlockingIOError:
            pass
        finally:
            os.set_blocking(self.reader, blocking)

    def close(self) -> None:
        """Close both ends in this process."""
        os.close(self.reader)
        os.close(self.writer)
