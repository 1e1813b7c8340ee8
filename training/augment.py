"""Random changes to a whole batch of training images at once."""

import math
from typing import Annotated, Literal

import torch
from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass
from torch import Generator, Tensor
from torch.nn import functional as F

_Amount = Annotated[float, Field(ge=0)]


@dataclass(frozen=True, slots=True, kw_only=True, config=ConfigDict(extra="forbid", strict=True))
class Affine:
    """Turns, scales, slants and shifts each image about its centre by amounts of its own, each drawn uniformly.

    Drawing and applying are apart, so that the parts of one batch can be warped in several places.

    Attributes:
        rotation: up to this many degrees either way.
        scale: up to this fraction larger or smaller.
        shear: up to this many degrees of slant either way.
        shift: up to this many pixels, horizontally and vertically.

    """

    kind: Literal["affine"]
    rotation: _Amount = 0.0
    scale: Annotated[float, Field(ge=0, lt=1)] = 0.0
    shear: Annotated[float, Field(ge=0, lt=90)] = 0.0
    shift: _Amount = 0.0

    def draw(self, count: int, generator: Generator) -> Tensor:
        """Return [count, 5]: degrees, scale, degrees of slant, pixels to the right, pixels down."""
        reach = torch.tensor([self.rotation, self.scale, self.shear, self.shift, self.shift])
        rest = torch.tensor([0.0, 1.0, 0.0, 0.0, 0.0])
        return rest + reach * (2 * torch.rand((count, 5), generator=generator) - 1)

    def apply(self, images: Tensor, amounts: Tensor) -> Tensor:
        """Return images [n, c, h, w], floats, changed by amounts [n, 5]; what comes into view is 0."""
        height, width = images.shape[-2:]
        grid = F.affine_grid(_inverse(amounts, height, width), list(images.shape), align_corners=False)
        return F.grid_sample(images, grid, mode="bilinear", padding_mode="zeros", align_corners=False)


def _inverse(amounts: Tensor, height: int, width: int) -> Tensor:
    """[n, 2, 3]: where each output point comes from, in affine_grid's coordinates, -1 to 1 across the image.

    The map undone is torchvision's `affine`: shift after rotation after slant along x after scale.
    """
    angle, slant = amounts[:, 0] * (math.pi / 180), amounts[:, 2] * (math.pi / 180)
    scale, right, down = amounts[:, 1], amounts[:, 3] * (2 / width), amounts[:, 4] * (2 / height)
    sine, cosine, tangent = angle.sin() / scale, angle.cos() / scale, slant.tan()
    aspect = height / width
    xx, xy = cosine - tangent * sine, (sine + tangent * cosine) * aspect
    yx, yy = -sine / aspect, cosine
    x_offset, y_offset = -xx * right - xy * down, -yx * right - yy * down
    return torch.stack([xx, xy, x_offset, yx, yy, y_offset], dim=1).view(-1, 2, 3)
