"""Random changes to a whole batch of training images at once."""

import math
from typing import Annotated, Literal

import torch
from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass
from torch import Generator, Tensor
from torch.nn import functional as F

_KNOTS = 5  # a bend is drawn on so many points each way, and smooth between them

_Amount = Annotated[float, Field(ge=0)]


@dataclass(frozen=True, slots=True, kw_only=True, config=ConfigDict(extra="forbid", strict=True))
class Warp:
    """Turns, scales, slants, shifts and bends each image by amounts of its own.

    Drawing and applying are apart, so that the parts of one batch can be warped in several places.

    Attributes:
        rotation: up to this many degrees either way about the centre, uniformly, as all but the bend.
        scale: up to this fraction larger or smaller.
        shear: up to this many degrees of slant either way.
        shift: up to this many pixels, horizontally and vertically.
        bend: standard deviation in pixels of a smooth random displacement, after Simard et al. (ICDAR 2003).

    """

    kind: Literal["warp"]
    rotation: _Amount = 0.0
    scale: Annotated[float, Field(ge=0, lt=1)] = 0.0
    shear: Annotated[float, Field(ge=0, lt=90)] = 0.0
    shift: _Amount = 0.0
    bend: _Amount = 0.0

    def draw(self, count: int, generator: Generator) -> Tensor:
        """Return [count, 55]: degrees, scale, degrees of slant, pixels right and down, and the bend's knots.

        The knots are 5 by 5 displacements in pixels along x, then as many along y.
        """
        reach = torch.tensor([self.rotation, self.scale, self.shear, self.shift, self.shift])
        rest = torch.tensor([0.0, 1.0, 0.0, 0.0, 0.0])
        whole = rest + reach * (2 * torch.rand((count, 5), generator=generator) - 1)
        return torch.cat([whole, self.bend * torch.randn((count, 2 * _KNOTS**2), generator=generator)], dim=1)

    def apply(self, images: Tensor, amounts: Tensor) -> Tensor:
        """Return images [n, c, h, w], floats, changed by amounts [n, 55]; what comes into view is 0."""
        height, width = images.shape[-2:]
        source = _undone(amounts[:, :5], height, width)
        if self.bend:
            source = source + _bend(amounts[:, 5:], height, width)
        # grid_sample's coordinates run from -1 to 1 between the outer edges of the image.
        grid = torch.stack([source[:, 0] * (2 / width), source[:, 1] * (2 / height)], dim=-1)
        return F.grid_sample(images, grid, mode="bilinear", padding_mode="zeros", align_corners=False)


def _undone(amounts: Tensor, height: int, width: int) -> Tensor:
    """[n, 2, h, w]: the x and y, in pixels from the centre, that each point of the result comes from.

    What is undone is torchvision's `affine`: shift after rotation after slant along x after scale.
    """
    degrees, scale, slant, right, down = (amount.view(-1, 1, 1) for amount in amounts.unbind(1))
    angle, tangent = degrees * (math.pi / 180), (slant * (math.pi / 180)).tan()
    sine, cosine = angle.sin() / scale, angle.cos() / scale
    x = torch.arange(width) - (width - 1) / 2 - right
    y = (torch.arange(height) - (height - 1) / 2).view(-1, 1) - down
    return torch.stack([(cosine - tangent * sine) * x + (sine + tangent * cosine) * y, cosine * y - sine * x], dim=1)


def _bend(knots: Tensor, height: int, width: int) -> Tensor:
    """[n, 2, h, w]: the displacement of each point, bicubic between the knots."""
    rows, columns = (_bicubic(size) for size in (height, width))
    return rows @ knots.view(-1, 2, _KNOTS, _KNOTS) @ columns.T


def _bicubic(size: int) -> Tensor:
    """[size, knots]: the weight of each knot at each of `size` points from the first knot to the last."""
    knots = torch.eye(_KNOTS).view(1, 1, _KNOTS, _KNOTS)
    return F.interpolate(knots, (size, _KNOTS), mode="bicubic", align_corners=True)[0, 0]
