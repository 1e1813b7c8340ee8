"""What a training experiment works on: images, how many, how long, with which seeds."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import torch
from torch import Generator
from torch.nn import functional as F

from training.data import sources
from training.data.dataset import ImageSet, Labelled
from training.data.preprocessing_spec import spec_of_files
from training.errors import DataError

_SUBSET_SEED = 0
"""Seed of the choice of images: all networks and all seeds see the same."""

_Chosen = TypeVar("_Chosen", bound=Labelled)


@dataclass(frozen=True, slots=True, kw_only=True)
class Scale:
    """How large an experiment is.

    Attributes:
        images: most images to train on.
        test_images: most images to measure the error on.
        epochs: epochs of each training.
        seeds: seeds from each of which every network is trained.
        shrink: factor by which the pictures' sides are divided, by averaging.
        depths: layers of the networks, as their family counts them.
        width: channels of the networks' first stage.

    """

    images: int
    test_images: int
    epochs: int
    seeds: tuple[int, ...]
    shrink: int = 1
    depths: tuple[int, ...] = ()
    width: int = 16


@dataclass(frozen=True, slots=True)
class Setup:
    """The images of one experiment, its scale, and a function that shows how it goes."""

    train: ImageSet
    test: ImageSet
    scale: Scale
    tell: Callable[[str], None]

    def described(self) -> str:
        """Return the images, epochs and seeds in words."""
        _, _, height, width = self.train.images.shape
        seeds = ", ".join(map(str, self.scale.seeds))
        images = f"{len(self.train):,} training" + (
            f" and {len(self.test):,} test images" if len(self.test) else " images"
        )
        epochs = f"{self.scale.epochs} epoch{'s' * (self.scale.epochs > 1)}"
        return f"{images} of {width}×{height} pixels, {epochs}, seeds {seeds}"


def load_split(data: str, root: Path, split: sources.Split, scale: Scale, channels: int, side: int) -> ImageSet:
    """Return a split's images as [n, channels, h, w], `side` wide before they shrink; DataError.

    Grey pictures stand in for colour ones, not the other way round.
    """
    count = scale.images if split == "train" else scale.test_images
    images = sources.load(data, root, split)
    images = choose(images, count)
    if not isinstance(images, ImageSet):
        images = images.decode(spec_of_files(channels, side))
    return _fitted(images, channels, scale.shrink)


def choose(images: _Chosen, count: int) -> _Chosen:
    """Return so many of the images at random, the same each time: files lie in their folder's order, class by class."""
    order = torch.randperm(len(images.labels), generator=Generator().manual_seed(_SUBSET_SEED))
    return images.take(order[:count])


def _fitted(images: ImageSet, channels: int, shrink: int) -> ImageSet:
    found = images.images.shape[1]
    if found not in (1, channels):
        raise DataError(
            f"the networks of this experiment take pictures of {channels} channel, not {found}: give other --data"
        )
    pixels = F.avg_pool2d(images.images.float(), shrink).round().to(torch.uint8)
    return ImageSet(pixels.expand(-1, channels, -1, -1).contiguous(), images.labels, images.classes, images.polarity)
