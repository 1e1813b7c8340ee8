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
    """Something large that every worker needs: pickled once into shared memory, read from there at each start."""

    def __init__(self, value: T) -> None:
        data = pickle.dumps(value, pickle.HIGHEST_PROTOCOL)
        self._memory = SharedMemory(len(data))
        self._memory.map[:] = data

    def load(self) -> T:
        """A copy of it."""
        value: T = pickle.loads(self._memory.map)  # nosec B301 # noqa: S301 - the parent alone wrote it
        return value
