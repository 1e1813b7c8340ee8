"""Memory that several processes see: made by the first one, before any other process exists."""

import errno
import mmap
import os
import pickle
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, ClassVar, Generic, TypeVar, overload
from weakref import WeakSet

import numpy as np
from numpy.typing import NDArray

T = TypeVar("T")


@contextmanager
def _told(what: str) -> Iterator[None]:
    """Have an OSError for want of so much memory say what limits it."""
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.EFBIG, errno.ENOMEM):
            raise
        why = f"{what} to share cannot be had ({error.strerror}): see `ulimit -f` and `ulimit -v`"
        raise OSError(error.errno, why) from error


class SharedMemory:
    """A sparse anonymous file that processes which are forked later inherit."""

    def __init__(self, size: int) -> None:
        self.fd = os.memfd_create("resnet-serve", os.MFD_CLOEXEC)
        with _told(f"{size} bytes"):
            os.ftruncate(self.fd, size)
            self.map = mmap.mmap(self.fd, size)

    def array(self, dtype: str, shape: tuple[int, ...]) -> NDArray[Any]:
        """A view, as an array of this type and shape."""
        return np.ndarray(shape, dtype, self.map)


class _SharedFile:
    """An anonymous file that is written once; it takes no other memory of a process, which gives it up by `close`."""

    known: ClassVar[WeakSet["_SharedFile"]] = WeakSet()

    def __init__(self) -> None:
        self._fd = os.memfd_create("resnet-serve", os.MFD_CLOEXEC)
        self.known.add(self)

    def _map(self) -> mmap.mmap:
        return mmap.mmap(self._fd, 0, access=mmap.ACCESS_READ)  # processes share the file's position

    def close(self) -> None:
        """Give it up in this process, once."""
        if self._fd >= 0:
            os.close(self._fd)
        self._fd = -1


class SharedObject(_SharedFile, Generic[T]):
    """Something large for several processes, pickled by the one that has it."""

    def store(self, value: T) -> None:
        """Write it, once."""
        with _told("memory"), os.fdopen(self._fd, "wb", closefd=False) as stream:
            pickle.dump(value, stream, pickle.HIGHEST_PROTOCOL)

    def load(self) -> T:
        """A copy of it."""
        with self._map() as data:
            value: T = pickle.loads(data)  # nosec B301 # noqa: S301 - a process of this server wrote it
        return value


class SharedSequence(_SharedFile, Sequence[T]):
    """Several large objects for several processes: an element is read without the others, and is a copy."""

    def store(self, values: Sequence[T]) -> None:
        """Write them, once: each pickled by itself, then where each ends, then where that list begins."""
        ends: list[int] = []
        with _told("memory"), os.fdopen(self._fd, "wb", closefd=False) as stream:
            for value in values:
                pickle.dump(value, stream, pickle.HIGHEST_PROTOCOL)
                ends.append(stream.tell())
            stream.write(np.array([*ends, len(ends)], np.int64).tobytes())

    def _ends(self, data: mmap.mmap) -> NDArray[np.int64]:
        count = int.from_bytes(data[-8:], "little")
        return np.frombuffer(data[-8 * (count + 1) : -8], np.int64)

    def __len__(self) -> int:
        with self._map() as data:
            return len(self._ends(data))

    @overload
    def __getitem__(self, index: int) -> T: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[T]: ...
    def __getitem__(self, index: int | slice) -> T | Sequence[T]:
        if isinstance(index, slice):
            return [self[i] for i in range(len(self))[index]]
        with self._map() as data:
            ends = [0, *self._ends(data).tolist()]
            place = range(len(ends) - 1)[index]
            value: T = pickle.loads(data[ends[place] : ends[place + 1]])  # nosec B301 # noqa: S301 - as above
        return value


def close_inherited(keep: SharedSequence[Any] | None = None) -> None:
    """In a process that was forked: give up every object and sequence of its parent but this one."""
    for file in _SharedFile.known:
        if file is not keep:
            file.close()
