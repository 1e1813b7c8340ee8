"""Memory that a GPU reads by itself: the system may not move it meanwhile."""

import ctypes
from contextlib import suppress

import numpy as np
from numpy.typing import NDArray


def page_locked(shape: tuple[int, ...]) -> NDArray[np.uint8]:
    """Zeros of this shape; page-locked where CUDA is loaded, else as usual, which is slower and no error."""
    memory = np.zeros(shape, np.uint8)
    for name in ("libcudart.so.13", "libcudart.so.12"):
        with suppress(OSError):
            ctypes.CDLL(name).cudaHostRegister(ctypes.c_void_p(memory.ctypes.data), ctypes.c_size_t(memory.nbytes), 0)
            break
    return memory
