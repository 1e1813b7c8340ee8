"""What the maker of an ONNX file does with a picture, by Pillow, torchvision and NumPy: nothing of it is our own.

What serves is compared with this, stage by stage.
"""

from dataclasses import dataclass
from io import BytesIO
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageOps
from torch.nn import functional as F
from torchvision.transforms import InterpolationMode
from torchvision.transforms import functional as transforms

from models.images.preprocessing import Preprocessing
from training.onnx_import.interface import Interface

Axes = Literal["nchw", "nhwc", "bytes as nchw", "numbers as nchw", "numbers as nhwc", "sides swapped"]
Stage = Literal["decode", "resize", "normalise", "layout", "graph"]

_FILTERS = {
    "nearest": InterpolationMode.NEAREST,
    "bilinear": InterpolationMode.BILINEAR,
    "bicubic": InterpolationMode.BICUBIC,
    "lanczos": InterpolationMode.LANCZOS,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """How a picture becomes the origin's input; each step can be another one, so that each can be tried.

    Transparent parts are put over the `background`, None shows what colours they have beneath. `resize` is the shorter
    side before the central crop, None squeezes the picture to size; `mean` and `std` are fractions of 255 in the order
    of the network's channels. Of grey pictures of 16 bits the `high_bytes` are taken, or
    255 for all above it, as by Pillow's own conversion.
    """

    height: int
    width: int
    channels: int
    background: tuple[int, int, int] | None
    upright: bool = True
    high_bytes: bool = True
    resize: int | None
    interpolation: str
    antialias: bool = True
    mean: tuple[float, ...]
    std: tuple[float, ...]
    bgr: bool = False
    axes: Axes

    @classmethod
    def of(cls, preprocessing: Preprocessing, interface: Interface, *, bgr: bool) -> "Origin":
        """The origin as an import was told of it."""
        order = slice(None, None, -1 if bgr else 1)
        return cls(
            height=preprocessing.height,
            width=preprocessing.width,
            channels=preprocessing.channels,
            background=preprocessing.background,
            resize=None if preprocessing.crop == "squash" else preprocessing.resize,
            interpolation=preprocessing.interpolation,
            mean=preprocessing.mean[order],
            std=preprocessing.std[order],
            bgr=bgr,
            axes=interface.layout,
        )

    def decode(self, picture: bytes) -> Image.Image:
        """The picture as it is to be seen, in grey or colour."""
        image: Image.Image = Image.open(BytesIO(picture))
        image.load()
        if self.upright:
            image = ImageOps.exif_transpose(image)
        if self.high_bytes and image.mode.startswith("I;16"):
            image = _high_bytes(image)
        if image.has_transparency_data and self.background is not None:
            backdrop = Image.new("RGBA", image.size, (*self.background, 255))
            image = Image.alpha_composite(backdrop, image.convert("RGBA")).convert("RGB")
        return image.convert("L" if self.channels == 1 else "RGB")

    def bring_to_size(self, image: Image.Image) -> NDArray[np.uint8]:
        """The picture as levels [height, width, channels]."""
        size = [self.height, self.width] if self.resize is None else self._before_crop(image.size)
        if self.antialias or self.interpolation in ("nearest", "lanczos"):
            resized = np.asarray(transforms.resize(image, size, _FILTERS[self.interpolation]))
        else:
            resized = _without_antialias(image, size, self.interpolation)
        pixels = resized.reshape(*resized.shape[:2], self.channels)
        top, left = (round((have - want) / 2) for have, want in zip(size, (self.height, self.width), strict=True))
        return pixels[top : top + self.height, left : left + self.width]

    def _before_crop(self, size: tuple[int, int]) -> list[int]:
        """Height and width with the shorter one as `resize` has it, rounded as torchvision does."""
        assert self.resize is not None
        width, height = size
        return [int(self.resize * side / min(size)) for side in (height, width)]

    def pixels(self, picture: bytes) -> NDArray[np.uint8]:
        """Decoded and brought to size."""
        return self.bring_to_size(self.decode(picture))

    def normalise(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Levels [n, h, w, c] as the numbers that the network was trained on, in the order of its channels."""
        ordered = pixels[..., ::-1] if self.bgr else pixels
        return np.asarray((ordered / 255.0 - np.array(self.mean)) / np.array(self.std), np.float32)

    def arrange(self, values: NDArray[np.float32]) -> NDArray[np.float32]:
        """Numbers [n, h, w, c] with their axes where the network has them."""
        n, height, width, channels = values.shape
        planes = values.transpose(0, 3, 1, 2)
        match self.axes:
            case "nchw" | "bytes as nchw":
                return planes
            case "nhwc":
                return values
            case "numbers as nchw":
                return values.reshape(n, channels, height, width)
            case "numbers as nhwc":
                return np.ascontiguousarray(planes).reshape(values.shape)
            case "sides swapped":
                return planes.transpose(0, 1, 3, 2)

    def inputs(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """What the origin's graph gets for pictures [n, h, w, c] of its size."""
        if self.axes == "bytes as nchw":
            n, height, width, channels = pixels.shape
            pixels = pixels.reshape(n, channels, height, width).transpose(0, 2, 3, 1)
        return self.arrange(self.normalise(pixels))


def _high_bytes(image: Image.Image) -> Image.Image:
    """A grey picture of 16 bits in 8; the level that is to be seen through becomes alpha."""
    levels = np.asarray(image)
    grey = Image.fromarray((levels // 256).astype(np.uint8))
    if (clear := image.info.get("transparency")) is not None:
        grey.putalpha(Image.fromarray(np.where(levels == clear, 0, 255).astype(np.uint8)))
    return grey


def _without_antialias(image: Image.Image, size: list[int], interpolation: str) -> NDArray[np.uint8]:
    """As OpenCV and `torch.nn.functional.interpolate` shrink: they look at a pixel's nearest neighbours alone."""
    levels = np.asarray(image)
    planes = torch.from_numpy(levels.reshape(1, *levels.shape[:2], -1).copy()).permute(0, 3, 1, 2).float()
    resized = F.interpolate(planes, size, mode=interpolation, align_corners=False)
    return resized.round().clamp(0, 255).byte()[0].permute(1, 2, 0).numpy()
