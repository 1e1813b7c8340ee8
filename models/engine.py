"""What runs a network: pixels in, logits out."""

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from models.artifact import Artifact


class EngineError(Exception):
    """An engine cannot be made as asked, or its answer is not what it must be."""


class Engine(Protocol):
    """One network on one device; safe to call from several threads at once."""

    name: str
    """`onnxruntime`"""
    device: str
    """`cpu`, `cuda:0`, ..."""
    precision: str
    """`fp32`, ..."""

    def run(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Logits [n, classes] of images [n, height, width, channels]; EngineError when it fails."""
        ...


def load_engine(artifact: Artifact, *, engine: str = "auto", device: str = "cpu", threads: int = 1) -> Engine:
    """Make the engine that was asked for; EngineError when this machine has no such engine or device.

    `auto` is ONNX Runtime: on two cores it runs the MNIST nets several times faster than eager PyTorch, and
    serving then needs no torch.
    """
    if engine in ("auto", "onnxruntime"):
        from models.onnx_engine import OnnxEngine  # an engine's library is imported only when chosen

        return OnnxEngine(artifact, device=device, threads=threads)
    raise EngineError(f"unknown engine {engine!r}; choose auto or onnxruntime")
