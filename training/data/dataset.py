"""Labelled images, and what training computes of them: a split, and their mean and deviation."""

import dataclasses
from dataclasses import dataclass
from typing import Protocol, Self, TypeVar

import torch
from torch import Generator, Tensor

from models.images.preprocessing import Polarity
from training.data.class_names import named
from training.errors import DataError

_BLOCK = 32
"""Images whose pixels are counted at once: all of them may not fit into memory."""

_SPLIT_SEED = 0
"""Seed of every split: all runs hold back the same images, whatever their own seeds."""


@dataclass(frozen=True, slots=True)
class ImageSet:
    """Images uint8 [n, channels, height, width] with labels int64 [n], which index `classes`.

    `polarity` is that of the metadata's `Preprocessing`: whether a picture served later that is dark on light should be
    turned to look like these. `names` are those of the files, as they read; none where images are no files.
    """

    images: Tensor
    labels: Tensor
    classes: tuple[str, ...]
    polarity: Polarity = "as_is"
    names: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, indices: Tensor) -> "ImageSet":
        """Return the images at these indices, in their order."""
        names = tuple(self.names[index] for index in indices.tolist()) if self.names else ()
        return ImageSet(self.images[indices], self.labels[indices], self.classes, self.polarity, names)


@dataclass(frozen=True, slots=True)
class Normalization:
    """Mean and standard deviation of each channel, as fractions of 255."""

    mean: tuple[float, ...]
    std: tuple[float, ...]

    def __call__(self, images: Tensor) -> Tensor:
        """Return floats [n, c, h, w] on the scale 0 to 255, shifted and scaled to mean 0 and deviation 1."""
        mean, std = (
            255 * torch.tensor(values, device=images.device).view(-1, 1, 1) for values in (self.mean, self.std)
        )
        return (images - mean) / std


class Labelled(Protocol):
    """Images of any form with labels int64 [n], which index `classes`; a dataclass."""

    @property
    def labels(self) -> Tensor:
        """The class of each image."""
        ...

    @property
    def classes(self) -> tuple[str, ...]:
        """The name of each class."""
        ...

    def take(self, indices: Tensor) -> Self:
        """Return the images at these indices."""
        ...


_Labelled = TypeVar("_Labelled", bound=Labelled)


def hold_out(images: _Labelled, fraction: float) -> tuple[_Labelled, _Labelled]:
    """Split off a fraction at random, the same images each time; return what is left, and what was held back.

    Each class keeps its share, and has at least one image on either side; an only image is trained on.
    """
    count = len(images.labels)
    if not fraction:
        return images, images.take(torch.arange(0))
    order = torch.randperm(count, generator=Generator().manual_seed(_SPLIT_SEED))
    labels = images.labels[order]
    counts, by_class = labels.bincount(), labels.argsort(stable=True)
    classes = labels[by_class]
    rank_in_class = torch.arange(count) - (counts.cumsum(0) - counts)[classes]
    held = torch.zeros(count, dtype=torch.bool)
    held[by_class] = rank_in_class < _quotas(counts, fraction)[classes]
    if not held.any():
        raise DataError(
            f"{fraction:g} of {count} images cannot be held back: of no class are there two; add images, or a val/"
        )
    return images.take(order[~held]), images.take(order[held])


def _quotas(counts: Tensor, fraction: float) -> Tensor:
    """How many images of each class are held back, of so many: altogether the fraction, but for small classes."""
    ends = (counts.cumsum(0) * fraction).round().long()
    return ends.diff(prepend=torch.tensor([0])).clamp(min=1).minimum(counts - 1).clamp(min=0)


def renamed(images: _Labelled, classes: tuple[str, ...], what: str) -> _Labelled:
    """Return the images with labels that index these classes, by name; DataError if they lack one of the images'."""
    if unknown := [name for name in images.classes if name not in classes]:
        raise DataError(
            f"{what} has images of {named(unknown)}; known are {named(classes)}: move those away, or "
            "rename their folders"
        )
    places = torch.tensor([classes.index(name) for name in images.classes])
    return dataclasses.replace(images, labels=places[images.labels], classes=classes)  # type: ignore[type-var]


def measure(images: ImageSet) -> Normalization:
    """Return the exact mean and deviation of the pixels, rounded to four places as they are usually printed."""
    levels = torch.arange(256, dtype=torch.float64) / 255
    counts = torch.zeros(images.images.shape[1], 256, dtype=torch.int64)
    for first in range(0, len(images), _BLOCK):
        block = images.images[first : first + _BLOCK]
        counts += torch.stack([torch.bincount(channel.flatten(), minlength=256) for channel in block.unbind(1)])
    shares = counts.double() / counts.sum(1, keepdim=True)
    mean = shares @ levels
    std = _rounded((shares @ levels**2 - mean**2).clamp(min=0).sqrt())
    if not all(std):
        raise DataError(
            "a channel has the same value in nearly every pixel: there is nothing to learn from; give other images"
        )
    return Normalization(_rounded(mean), std)


def _rounded(values: Tensor) -> tuple[float, ...]:
    return tuple(round(value, 4) for value in values.tolist())
