"""How images and results cross between API processes and workers: shared slots and pipes, no Manager, no pickling.

Each API process owns a range of the `Region`'s slots. It writes an image's pixels into a slot and sends the slot's
number to a worker seat's request pipe; the worker writes the results into the same slot and sends a `Reply` to the
API process's reply pipe. Whoever holds a slot's number may write to the slot, nobody else.
"""

import mmap
import os
import pickle
import struct
from collections.abc import Iterator, Sequence
from multiprocessing.reduction import DupFd
from typing import Any, Generic, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

T = TypeVar("T")

PIPE_BUF = 4096  # bytes; POSIX writes up to this size arrive whole, also with several writers (pipe(7), Linux)

# What a worker says of one slot.
OK, FAILED, EXPIRED = 0, 1, 2


class SharedMemory:
    """A sparse anonymous file, mapped into several processes: forked ones inherit it, spawned ones get it pickled."""

    def __init__(self, size: int) -> None:
        self._attach(os.memfd_create("resnet-serve", os.MFD_CLOEXEC), size, truncate=True)

    def _attach(self, fd: int, size: int, *, truncate: bool) -> None:
        self.fd, self.size = fd, size
        if truncate:
            os.ftruncate(fd, size)
        self.map = mmap.mmap(fd, size)

    def __getstate__(self) -> tuple[Any, int]:
        return DupFd(self.fd), self.size

    def __setstate__(self, state: tuple[Any, int]) -> None:
        self._attach(state[0].detach(), state[1], truncate=False)

    def array(self, dtype: str, shape: tuple[int, ...], offset: int = 0) -> NDArray[Any]:
        """A view, as an array of this type and shape."""
        return np.ndarray(shape, dtype, self.map, offset)


class SharedObject(Generic[T]):
    """Something large that every worker needs: pickled once into shared memory, read from there at each start."""

    def __init__(self, value: T) -> None:
        data = pickle.dumps(value, pickle.HIGHEST_PROTOCOL)
        self._memory = SharedMemory(len(data))
        self._memory.map[:] = data

    def load(self) -> T:
        """A copy of it."""
        value: T = pickle.loads(self._memory.map)  # noqa: S301 - the parent alone wrote it
        return value


class Pipe:
    """Both ends of a pipe that outlives the processes using it; each end is non-blocking where asked."""

    def __init__(self, *, packets: bool = False) -> None:
        # O_DIRECT: one read returns one written message, not a run of them (pipe(2), "packet mode").
        self.reader, self.writer = os.pipe2(os.O_CLOEXEC | (os.O_DIRECT if packets else 0))
        os.set_blocking(self.writer, False)

    def __getstate__(self) -> tuple[Any, Any]:
        return DupFd(self.reader), DupFd(self.writer)

    def __setstate__(self, state: tuple[Any, Any]) -> None:
        self.reader, self.writer = (end.detach() for end in state)

    def drain(self) -> None:
        """Discard what nobody will read any more."""
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


class Region:
    """Slots, each a place for one image and its results.

    A slot holds, in this order: the deadline (int64, ns of the monotonic clock), the status (int32), the logits
    (float32 [classes]), the probabilities in falling order (float32 [classes]), their indices (int32 [classes]), and
    the pixels (uint8 [input_bytes]). Untouched slots take no memory.
    """

    def __init__(self, slots: int, input_bytes: int, classes: int) -> None:
        self.slots, self.input_bytes, self.classes = slots, input_bytes, classes
        self._head_bytes = 16 + 12 * classes
        self._stride = -(-(self._head_bytes + input_bytes) // 64) * 64  # whole cache lines
        self.memory = SharedMemory(slots * self._stride)
        self._make_views()

    def _make_views(self) -> None:
        rows = self.memory.array("u1", (self.slots, self._stride))
        head, c = self._head_bytes, self.classes
        self.deadlines = rows[:, 0:8].view("i8")[:, 0]
        self.statuses = rows[:, 8:12].view("i4")[:, 0]
        self.logits = rows[:, 16 : 16 + 4 * c].view("f4")
        self.probabilities = rows[:, 16 + 4 * c : 16 + 8 * c].view("f4")
        self.indices = rows[:, 16 + 8 * c : head].view("i4")
        self.pixels = rows[:, head : head + self.input_bytes]
        self._words = memoryview(self.memory.map).cast("q")  # written faster than an array's elements

    def __getstate__(self) -> dict[str, Any]:
        names = ("slots", "input_bytes", "classes", "_head_bytes", "_stride", "memory")
        return {name: getattr(self, name) for name in names}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._make_views()

    def put(self, slot: int, pixels: NDArray[np.uint8], deadline_ns: int) -> None:
        """Write one image (uint8 [h, w, c], contiguous) and its deadline into a slot."""
        if pixels.nbytes > self.input_bytes:
            raise ValueError(f"{pixels.nbytes} bytes of pixels; a slot takes {self.input_bytes}")
        start = slot * self._stride
        self._words[start // 8] = deadline_ns
        start += self._head_bytes
        self.memory.map[start : start + pixels.nbytes] = pixels.data

    def images(self, slots: Sequence[int], shape: tuple[int, int, int]) -> NDArray[np.uint8]:
        """A copy of several slots' pixels as one batch, uint8 [n, h, w, c]."""
        size = shape[0] * shape[1] * shape[2]
        batch: NDArray[np.uint8] = self.pixels[np.asarray(slots), :size]
        return batch.reshape(len(slots), *shape)


class BatchMessage(NamedTuple):
    """Images of one model, from an API process to a worker seat."""

    api: int
    model: int
    epoch: int  # the seat's life that this batch is meant for
    batch: int
    top_k: int
    slots: tuple[int, ...]
    alone: bool = False  # no other message's images may run with these

    def pack(self) -> bytes:
        """The message's bytes, at most PIPE_BUF."""
        n = len(self.slots)
        head = _HEAD.pack(self.api, self.model, self.epoch, self.batch, self.top_k, n, self.alone)
        return head + struct.pack(f"<{n}I", *self.slots)

    @classmethod
    def unpack(cls, data: bytes) -> "BatchMessage":
        """The message that these bytes hold."""
        api, model, epoch, batch, top_k, n, alone = _HEAD.unpack_from(data)
        return cls(api, model, epoch, batch, top_k, struct.unpack_from(f"<{n}I", data, _HEAD.size), alone)


_HEAD = struct.Struct("<HHIQHH?")
MAX_BATCH_SIZE = (PIPE_BUF - _HEAD.size) // 4
PROBE = BatchMessage(api=0, model=0, epoch=0, batch=0, top_k=1, slots=()).pack()  # for no life: it is only read away


class Reply(NamedTuple):
    """The images of one message are done; the slots tell how."""

    seat: int
    epoch: int
    batch: int
    taken_ns: int  # when the worker took them up, monotonic clock
    done_ns: int  # when the engine had returned and the results stood in the slots
    batch_size: int  # images that ran together, of all messages
    counts: bool  # whether it is this message's API process that counts them as a batch

    def pack(self) -> bytes:
        """The reply's bytes, of one fixed size."""
        return _REPLY.pack(*self)


_REPLY = struct.Struct("<IIQqqH?")
MAX_REPLIES = PIPE_BUF // _REPLY.size  # in one write


def unpack_replies(data: bytes) -> Iterator[Reply]:
    """The replies in what was read from a reply pipe; writes are atomic, so there is never a part of one."""
    return (Reply(*fields) for fields in _REPLY.iter_unpack(data))


class Board:
    """What every process may know of the worker seats at any time, without asking: one row a seat.

    Written by the supervisor: `epochs`. Written by the seat's worker: when its batch began (ns of the monotonic clock,
    0 when idle), how long that may take, and for each API process the last batch it took up. Written by each API
    process: its element of each seat's `loads_ns`, the time that what it has sent there will take, and of
    `backlogs_ns`, the worker time that all it holds will take.
    """

    def __init__(self, seats: int, api_processes: int) -> None:
        self.seats, self.api_processes = seats, api_processes
        self._memory = SharedMemory((seats * (3 + 2 * api_processes) + api_processes) * 8)
        self._make_views()

    def _make_views(self) -> None:
        rows = self._memory.array("i8", (self.seats, 3 + self.api_processes))
        self.epochs, self.began_ns, self.limit_ns = rows[:, 0], rows[:, 1], rows[:, 2]
        self.taken = rows[:, 3:]
        times = memoryview(self._memory.map).cast("q")[rows.size :]  # read and written faster than an array's elements
        self.backlogs_ns, loads = times[: self.api_processes], times[self.api_processes :]
        self.loads_ns = [loads[i * self.api_processes : (i + 1) * self.api_processes] for i in range(self.seats)]

    def __getstate__(self) -> tuple[int, int, SharedMemory]:
        return self.seats, self.api_processes, self._memory

    def __setstate__(self, state: tuple[int, int, SharedMemory]) -> None:
        self.seats, self.api_processes, self._memory = state
        self._make_views()

    def hung(self, seat: int, now_ns: int) -> bool:
        """Whether the seat's running batch takes longer than it ever should."""
        began = int(self.began_ns[seat])
        return began > 0 and now_ns - began > int(self.limit_ns[seat])


class Channels:
    """Every descriptor that crosses a process boundary, made once, before any process is."""

    def __init__(self, seats: int, api_processes: int, slots: int, input_bytes: int, classes: int) -> None:
        self.board = Board(seats, api_processes)
        self._slots = slots
        self.region = Region(slots * api_processes, input_bytes, classes)
        self.requests = [Pipe(packets=True) for _ in range(seats)]
        self.replies = [Pipe() for _ in range(api_processes)]
        self.reports = [Pipe() for _ in range(seats)]

    def slots_of(self, api: int) -> range:
        """The slots that an API process owns."""
        return range(api * self._slots, (api + 1) * self._slots)
