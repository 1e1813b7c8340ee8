"""Memory that a GPU reads by itself: the system may not move it meanwhile."""

import ctypes
import weakref
from contextlib import suppress

import numpy as np
from numpy.typing import NDArray


def page_locked(shape: tuple[int, ...]) -> NDArray[np.uint8]:
    """Zeros of this shape; page-locked where CUDA is loaded, else as usual, which is slower and no error."""
    memory = np.zeros(shape, np.uint8)
    for name in ("libcudart.so.13", "libcudart.so.12"):
        with suppress(OSError):
            _lock(memory, ctypes.CDLL(name))
            break
    return memory


def _lock(memory: NDArray[np.uint8], cuda: ctypes.CDLL) -> None:
    """Until the memory is free, and may be another's at the same address."""
    address = ctypes.c_void_p(memory.ctypes.data)
    if cuda.cudaHostRegister(address, ctypes.c_size_t(memory.nbytes), 0):
        cuda.cudaGetLastError()  # resets it: the next check for errors would report this one
    else:
        weakref.finalize(memory, cuda.cudaHostUnregister, address).atexit = False
