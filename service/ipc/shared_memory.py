"""Memory that several processes see: made by the first one, before any other process exists."""

import mmap
import os
import pickle
from multiprocessing.reduction import DupFd
from typing import Any, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

T = TypeVar("T")


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
    """Something large for several processes: pickled once into an anonymous file, by the one that has it.

    It takes no other memory of the process that made it, which gives it up by `close`.
    """

    def __init__(self) -> None:
        self._fd = os.memfd_create("resnet-serve", os.MFD_CLOEXEC)

    def __getstate__(self) -> tuple[Any]:
        return (DupFd(self._fd),)

    def __setstate__(self, state: tuple[Any]) -> None:
        self._fd = state[0].detach()

    def store(self, value: T) -> None:
        """Write it, once."""
        with os.fdopen(self._fd, "wb", closefd=False) as stream:
            pickle.dump(value, stream, pickle.HIGHEST_PROTOCOL)

    def load(self) -> T:
        """A copy of it."""
        with mmap.mmap(self._fd, 0, access=mmap.ACCESS_READ) as data:  # processes share the file's position
            value: T = pickle.loads(data)  # nosec B301 # noqa: S301 - a process of this server wrote it
        return value

    def close(self) -> None:
        """Give it up in this process, once."""
        if self._fd >= 0:
            os.close(self._fd)
        self._fd = -1
