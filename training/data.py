"""Labelled images in memory, and what training takes from them: a split, and their mean and deviation."""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Generator, Tensor

from models.metadata import Preprocessing
from training.errors import DataError

_SPLIT_SEED = 0  # a constant, so that every run holds back the same images, whatever its own seed


@dataclass(frozen=True, slots=True)
class ImageSet:
    """Images uint8 [n, channels, height, width] with labels int64 [n], which index `classes`.

    `polarity` is that of `models.metadata.Preprocessing`: whether a picture served later that is dark on light should
    be turned to look like these.
    """

    images: Tensor
    labels: Tensor
    classes: tuple[str, ...]
    polarity: Literal["as_is", "light_on_dark"] = "as_is"

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, indices: Tensor) -> "ImageSet":
        """Return the images at these indices, in their order."""
        return ImageSet(self.images[indices], self.labels[indices], self.classes, self.polarity)


@dataclass(frozen=True, slots=True)
class Normalization:
    """Mean and standard deviation of each channel, as fractions of 255."""

    mean: tuple[float, ...]
    std: tuple[float, ...]

    def __call__(self, images: Tensor) -> Tensor:
        """Return floats [n, c, h, w] on the scale 0 to 255, shifted and scaled to mean 0 and deviation 1."""
        mean, std = (255 * torch.tensor(values).view(-1, 1, 1) for values in (self.mean, self.std))
        return (images - mean) / std


def hold_out(images: ImageSet, fraction: float) -> tuple[ImageSet, ImageSet]:
    """Split off a fraction at random, the same images each time; return what is left, and what was held back."""
    order = torch.randperm(len(images), generator=Generator().manual_seed(_SPLIT_SEED))
    held = round(len(images) * fraction)
    if held == len(images) or (fraction and not held):
        raise DataError(f"{fraction:g} of {len(images)} images leaves one side of the split empty")
    return images.take(order[held:]), images.take(order[:held])


def measure(images: ImageSet) -> Normalization:
    """Return the exact mean and deviation of the pixels, rounded to four places as they are usually printed."""
    levels = torch.arange(256, dtype=torch.float64) / 255
    counts = torch.stack([torch.bincount(channel.flatten(), minlength=256) for channel in images.images.unbind(1)])
    shares = counts.double() / counts.sum(1, keepdim=True)
    mean = shares @ levels
    std = (shares @ levels**2 - mean**2).sqrt()
    if not std.all():
        raise DataError("a channel has the same value in every pixel: there is nothing to learn from")
    return Normalization(_rounded(mean), _rounded(std))


def preprocessing(images: ImageSet, normalization: Normalization) -> Preprocessing:
    """Return how a server turns any picture into one like these."""
    _, channels, height, width = images.images.shape
    return Preprocessing(
        mode="L" if channels == 1 else "RGB",
        height=height,
        width=width,
        exif_transpose=True,
        background=(255, 255, 255),
        sixteen_bit="high_byte",
        polarity=images.polarity,
        resize=max(height, width),
        crop="center",
        interpolation="bilinear",
        antialias=True,
        draft=True,
        mean=normalization.mean,
        std=normalization.std,
    )


def _rounded(values: Tensor) -> tuple[float, ...]:
    return tuple(round(value, 4) for value in values.tolist())
