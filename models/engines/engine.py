"""What runs a network: pixels in, logits out."""

from collections.abc import Callable
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Infer = Callable[[NDArray[np.uint8]], NDArray[np.float32]]
"""Gives the logits [n, classes] of images [n, height, width, channels]."""


class EngineError(Exception):
    """An engine cannot be made as asked, or its answer is not what it must be."""


def checked(logits: NDArray[np.float32], images: int, classes: int) -> NDArray[np.float32]:
    """The logits, if they are of so many images and classes; else EngineError."""
    if logits.shape != (images, classes):
        raise EngineError(f"{images} images in, {logits.shape} out, {classes} classes expected")
    return logits


class Engine(Protocol):
    """One network on one device; safe to call from several threads at once."""

    name: str
    """`onnxruntime`, `tensorrt` (inside ONNX Runtime) or `torch`"""
    library: str
    """What runs it, and its version: `onnxruntime 1.32.0`."""
    device: str
    """`cpu`, `cuda:0`, ..."""
    precision: str
    """`fp32`, ..."""

    def run(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Logits [n, classes] of images [n, height, width, channels]; EngineError when it fails."""
        ...
