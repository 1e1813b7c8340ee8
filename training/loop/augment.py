"""Random changes to a whole batch of training images at once.

They are drawn and applied separately, so that several processes can each change their part of a batch.
"""

import math
from typing import Annotated, Literal

import torch
from pydantic import Field
from pydantic.dataclasses import dataclass
from torch import Generator, Tensor
from torch.nn import functional as F

from models.validation import STRICT
from training.errors import RecipeError

_Amount = Annotated[float, Field(ge=0)]

_KNOTS = 4
"""Knots along each side of the image, the outermost on its corners."""

_TRIES = 10
"""Crops that are drawn until one fits into the image, as in torchvision's `RandomResizedCrop`."""


@dataclass(frozen=True, slots=True, kw_only=True, config=STRICT)
class Affine:
    """Turns, scales, slants, shifts and bends each image by amounts of its own, each drawn uniformly.

    Attributes:
        rotation: up to this many degrees either way.
        scale: up to this fraction larger or smaller.
        shear: up to this many degrees of slant either way.
        shift: up to this many pixels, horizontally and vertically.
        bend: up to this many pixels either way at each of 4 x 4 knots, smoothly in between: the elastic distortion of
            Simard, Steinkraus and Platt (ICDAR 2003), which digits written by hand have of their own.

    """

    kind: Literal["affine"]
    rotation: _Amount = 0.0
    scale: Annotated[float, Field(ge=0, lt=1)] = 0.0
    shear: Annotated[float, Field(ge=0, lt=90)] = 0.0
    shift: _Amount = 0.0
    bend: _Amount = 0.0

    def draw(self, indices: Tensor, epoch: int, generator: Generator) -> Tensor:  # noqa: ARG002
        """Return [n, 5]: degrees, scale, degrees of slant, pixels to the right, pixels down; or, if it bends, [n, 37].

        The rest is how many pixels each knot moves to the right, row by row, and then how many down.
        """
        bends = 2 * _KNOTS**2 if self.bend else 0
        reach = torch.tensor([self.rotation, self.scale, self.shear, self.shift, self.shift, *[self.bend] * bends])
        rest = torch.tensor([0.0, 1.0, *[0.0] * (3 + bends)])
        return rest + reach * (2 * torch.rand((len(indices), 5 + bends), generator=generator) - 1)

    def apply(self, images: Tensor, amounts: Tensor) -> Tensor:
        """Return images [n, c, h, w], floats, changed by amounts [n, ...]; what comes into view is 0."""
        height, width = images.shape[-2:]
        x, y = _sources(amounts[:, :5], height, width)
        if self.bend:
            knots = amounts[:, 5:].reshape(-1, 2, _KNOTS, _KNOTS)
            right, down = F.interpolate(knots, (height, width), mode="bicubic", align_corners=True).unbind(1)
            x, y = x - right, y - down
        # grid_sample's coordinates run from -1 to 1 between the outer edges of the image.
        grid = torch.stack([x * (2 / width), y * (2 / height)], dim=-1)
        return F.grid_sample(images, grid, mode="bilinear", padding_mode="zeros", align_corners=False)


@dataclass(frozen=True, slots=True, kw_only=True, config=STRICT)
class CropFlip:
    """Pads each image, takes a crop of its old size at random, and mirrors every second one.

    Attributes:
        padding: pixels added on each side.
        fill: what is added: black (`zero`) or the image reflected at its border.
        alternate: mirror each image in every second epoch, half of them from the first on, instead of at random: no
            image is seen the same way round twice in a row (https://arxiv.org/abs/2404.00498, section 3.6).
        cutout: side in pixels of a square, anywhere in the image, that becomes the image's mean colour; it may reach
            over the border (https://arxiv.org/abs/1708.04552).

    """

    kind: Literal["crop-flip"]
    padding: Annotated[int, Field(ge=0)] = 4
    fill: Literal["zero", "reflect"] = "zero"
    alternate: bool = False
    cutout: Annotated[int, Field(ge=0)] = 0

    def draw(self, indices: Tensor, epoch: int, generator: Generator) -> Tensor:
        """Return [n, 5]: whether it is mirrored, left and upper edge of the crop in pixels, and the cutout's centre.

        The last two are fractions of width and height.
        """
        count = len(indices)
        mirrored = _coin(indices) ^ epoch & 1 if self.alternate else torch.randint(2, (count,), generator=generator)
        edges = torch.randint(2 * self.padding + 1, (count, 2), generator=generator)
        return torch.cat([mirrored.view(-1, 1), edges, torch.rand((count, 2), generator=generator)], dim=1)

    def apply(self, images: Tensor, amounts: Tensor) -> Tensor:
        """Return images [n, c, h, w], floats, changed by amounts [n, 5]."""
        height, width = images.shape[-2:]
        if self.fill == "reflect" and self.padding >= min(height, width):
            raise RecipeError(
                f"images of {width}x{height} pixels cannot be reflected over {self.padding} pixels at their border: "
                'give the augmentation a smaller padding, or fill = "zero"'
            )
        mirrored, left, top = amounts[:, :3].long().unbind(1)
        if self.cutout:
            images = self._cut(images, amounts[:, 3:])
        padded = F.pad(images, (self.padding,) * 4, mode="reflect" if self.fill == "reflect" else "constant")
        rows, columns = torch.arange(height), torch.arange(width)
        y = top.view(-1, 1) + rows
        x = left.view(-1, 1) + torch.where(mirrored.view(-1, 1).bool(), columns.flip(0), columns)
        # The indexed axes come first: [n, h, w, c], which is what channels last means.
        cropped = padded[torch.arange(len(images)).view(-1, 1, 1), :, y.unsqueeze(2), x.unsqueeze(1)]
        return cropped.permute(0, 3, 1, 2)

    def _cut(self, images: Tensor, centres: Tensor) -> Tensor:
        height, width = images.shape[-2:]
        x, y = (centres * torch.tensor([width, height])).long().view(-1, 2, 1, 1).unbind(1)
        across, down = torch.arange(width) - x, torch.arange(height).view(-1, 1) - y
        first, end = -(self.cutout // 2), self.cutout - self.cutout // 2
        inside = (across >= first) & (across < end) & (down >= first) & (down < end)
        return torch.where(inside.unsqueeze(1), images.mean((2, 3), keepdim=True), images)


@dataclass(frozen=True, slots=True, kw_only=True, config=STRICT)
class ResizedCrop:
    """Takes a part of each image at random, resizes it, and mirrors every second one, as Inception did on ImageNet.

    The crop is that of torchvision's `RandomResizedCrop` (https://arxiv.org/abs/1409.4842, section 6), its sides in
    proportion to the image's own, which are equal in pictures that come from files.

    Attributes:
        size: side of the result in pixels.
        least_area: smallest share of the image that is taken; the largest is all of it.
        aspect: most that the crop's width over its height, or its height over its width, is that of the image.

    """

    kind: Literal["resized-crop"]
    size: Annotated[int, Field(ge=1)]
    least_area: Annotated[float, Field(gt=0, le=1)] = 0.08
    aspect: Annotated[float, Field(ge=1)] = 4 / 3

    def draw(self, indices: Tensor, epoch: int, generator: Generator) -> Tensor:  # noqa: ARG002
        """Return [n, 5]: whether it is mirrored, and as fractions the crop's width and height, and its left and top.

        The last two are of the room that is left beside and above it.
        """
        count = len(indices)
        area, ratio = torch.rand((2, count, _TRIES), generator=generator)
        area = self.least_area + (1 - self.least_area) * area
        ratio = self.aspect ** (2 * ratio - 1)
        sides = torch.stack([area * ratio, area / ratio], dim=2).sqrt()
        sides = torch.cat([sides, torch.ones(count, 1, 2)], dim=1)  # if none fits, all of the image
        first = (sides <= 1).all(2).float().argmax(1)
        mirrored = torch.randint(2, (count, 1), generator=generator)
        return torch.cat([mirrored, sides[torch.arange(count), first], torch.rand((count, 2), generator=generator)], 1)

    def apply(self, images: Tensor, amounts: Tensor) -> Tensor:
        """Return images [n, c, size, size], floats, of images [n, c, h, w] and amounts [n, 5]."""
        mirrored, width, height, left, top = amounts.unbind(1)
        down = _resampling(height, top, images.shape[2], self.size)
        across = _resampling(width, left, images.shape[3], self.size)
        across = torch.where(mirrored.view(-1, 1, 1).bool(), across.flip(1), across)
        return down.unsqueeze(1) @ images @ across.mT.unsqueeze(1)


def _resampling(share: Tensor, place: Tensor, length: int, size: int) -> Tensor:
    """The weights [n, size, length] with which a side's pixels add up to those of a resized part of it.

    The part takes this share of the side, and lies at this place in the room that it leaves. The filter is bilinear,
    widened where it shrinks: torchvision's with antialias.
    """
    taken = (share * length).round().clamp(min=1)
    start = torch.minimum(
        (place * (length - taken + 1)).floor(), length - taken
    )  # rounding may give 1.0, which is outside
    taken, start = taken.view(-1, 1, 1), start.view(-1, 1, 1)
    scale = taken / size
    centres = start + scale * (torch.arange(size).view(-1, 1) + 0.5)
    pixels = torch.arange(length) + 0.5
    weights = (1 - (pixels - centres).abs() / scale.clamp(min=1)).clamp(min=0)
    weights = weights * ((pixels > start) & (pixels < start + taken))
    return weights / weights.sum(2, keepdim=True)


def _coin(indices: Tensor) -> Tensor:
    """0 or 1 for each index, always the same: bits of its hash."""
    mixed = (indices + 1) * 0x9E3779B1
    mixed = (mixed ^ mixed >> 15) * 0x85EBCA77
    return mixed >> 13 & 1


def _sources(amounts: Tensor, height: int, width: int) -> tuple[Tensor, Tensor]:
    """The x and y [n, h, w], in pixels from the centre, that each point of the result comes from.

    What is undone is torchvision's `affine`: shift after rotation after slant along x after scale. Broadcast sums take
    an eighth of the time of torch's `affine_grid`.
    """
    degrees, scale, slant, right, down = (amount.view(-1, 1, 1) for amount in amounts.unbind(1))
    angle, tangent = degrees * (math.pi / 180), (slant * (math.pi / 180)).tan()
    sine, cosine = angle.sin() / scale, angle.cos() / scale
    x = torch.arange(width) - (width - 1) / 2 - right
    y = (torch.arange(height) - (height - 1) / 2).view(-1, 1) - down
    return (cosine - tangent * sine) * x + (sine + tangent * cosine) * y, cosine * y - sine * x
