"""A network that is quick to export and to run, and its ONNX files of every kind."""

import warnings
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

SIDE = 32
LABELS = ("ant", "bee", "cat", "dog", "elk")


class TinyNet(nn.Module):
    """Two convolutions and a linear layer: floats [n, channels, 32, 32] to logits [n, classes]."""

    def __init__(self, channels: int, classes: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(channels, 8, 3, 2, 1), nn.ReLU(), nn.Conv2d(8, 64, 3, 2, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(1)
        )
        self.head = nn.Linear(64, classes)

    def forward(self, pictures: Tensor) -> Tensor:
        return 5 * self.head(self.body(pictures).flatten(1))


class Wrapped(nn.Module):
    """A network with something before or behind it."""

    def __init__(self, network: nn.Module, before: Any = None, behind: Any = None) -> None:
        super().__init__()
        self.network, self.before, self.behind = network, before, behind

    def forward(self, pictures: Tensor) -> Any:
        logits = self.network(self.before(pictures) if self.before else pictures)
        return self.behind(logits) if self.behind else logits


def tiny(channels: int = 3, classes: int = len(LABELS)) -> TinyNet:
    """The same weights in every call."""
    with torch.random.fork_rng():
        torch.manual_seed(1)
        return TinyNet(channels, classes).eval()


def export(
    made: nn.Module, path: Path, shape: tuple[int, ...] = (1, 3, SIDE, SIDE), dtype: Any = torch.float32, **more: Any
) -> Path:
    """Write the file by TorchScript, which is the quickest way; `shape` is that of the inputs with the batch."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that this way is the old one, and of what is traced
        torch.onnx.export(made, (torch.zeros(shape, dtype=dtype),), path, dynamo=False, **more)
    return path
