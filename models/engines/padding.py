"""Batches of few sizes only: for each new size a GPU's libraries choose kernels, build, or record anew."""

import numpy as np
from numpy.typing import NDArray

from models.engines.engine import EngineError


def pad(images: NDArray[np.uint8], memory: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Copy images [n, ...] into memory [largest, ...] and fill up with zeros to 1, 2, 4, ... or the largest.

    Returns that part of the memory; EngineError when the images are more than it holds.
    """
    n, largest = len(images), len(memory)
    if n > largest:
        raise EngineError(f"{n} images in a batch; the engine is prepared for {largest} at most")
    size = min(1 << (n - 1).bit_length(), largest)
    memory[:n] = images
    memory[n:size] = 0
    return memory[:size]
