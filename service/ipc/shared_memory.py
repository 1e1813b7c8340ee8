"""Memory that several processes see: made by the first one, before any other process exists."""

import mmap
import os
import pickle
from typing import Any, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

T = TypeVar("T")


class SharedMemory:
    """A sparse anonymous file that processes which are forked later inherit."""

    def __init__(self, size: int) -> None:
        self.fd = os.memfd_create("resnet-serve", os.MFD_CLOEXEC)
        os.ftruncate(self.fd, size)
        self.map = mmap.mmap(self.fd, size)

    def array(self, dtype: str, shape: tuple[int, ...], offset: int = 0) -> NDArray[Any]:
        """A view, as an array of this type and shape."""
        return np.ndarray(shape, dtype, self.map, offset)


class SharedObject(Generic[T]):
    """Something large for several processes: pickled once into an anonymous file, by the one that has it.

    It takes no other memory of the process that made it, which gives it up by `close`.
    """

    def __init__(self) -> None:
        self._fd = os.memfd_create("resnet-serve", os.MFD_CLOEXEC)

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
