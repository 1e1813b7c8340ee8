"""Pictures of two classes that the smallest network tells apart."""

import torch
from torch import Generator

from training.data.dataset import ImageSet

CLASSES = ("dark", "bright")


def bright_and_dark(count: int, channels: int, side: int) -> ImageSet:
    """So many noisy squares, every second one brighter."""
    labels = torch.arange(count) % 2
    noise = torch.randint(0, 100, (count, channels, side, side), generator=Generator().manual_seed(0))
    return ImageSet((noise + 100 * labels.view(-1, 1, 1, 1)).to(torch.uint8), labels, CLASSES)
