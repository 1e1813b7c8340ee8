"""How an encoded image becomes a network's input: the specification that a released model carries."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator
from pydantic.dataclasses import dataclass

from models.validation import STRICT

Polarity = Literal["as_is", "light_on_dark"]
Crop = Literal["center", "squash"]

_Side = Annotated[int, Field(gt=0, le=65_535)]
_Level = Annotated[int, Field(ge=0, le=255)]
_Positive = Annotated[float, Field(gt=0)]


@dataclass(frozen=True, slots=True, kw_only=True, config=STRICT)
class Preprocessing:
    """How an encoded image becomes the network's input, and how the graph normalises that.

    In this order: EXIF orientation, alpha over the background, mode, one resize that also crops, polarity.
    Fields with a single allowed value state a fact that a reader of the metadata needs.

    Attributes:
        mode: grey or colour; palettes, CMYK and all else are converted as Pillow does it (ITU-R 601-2 luma).
        height: height of the network's input, in pixels.
        width: width of the network's input, in pixels.
        exif_transpose: turn the image as its EXIF orientation asks.
        background: RGB colour, 0 to 255, that transparent pixels show.
        sixteen_bit: samples of 16 bits keep their high byte, as libpng's `strip` does.
        polarity: `light_on_dark` inverts a picture whose outermost ring of pixels has a mean above 127:
            dark digits on light paper become MNIST's light digits on dark.
        resize: length of the shorter side in pixels before the crop, as torchvision's `Resize(int)`.
        crop: the centre of the resized image, as torchvision's `CenterCrop`; or `squash`: all of the image, squeezed
            to height and width whatever its shape, as torchvision's `Resize((height, width))`.
        interpolation: Pillow's filter.
        antialias: the filter widens when it shrinks.
        draft: a JPEG may be decoded at 1/2, 1/4 or 1/8 when that is still no smaller than the resized image.
        mean: mean of each channel, as a fraction of 255; subtracted inside the graph.
        std: standard deviation of each channel, as a fraction of 255; divided by inside the graph.

    """

    mode: Literal["L", "RGB"]
    height: _Side
    width: _Side
    resize: _Side
    mean: tuple[float, ...]
    std: tuple[_Positive, ...]
    crop: Crop
    interpolation: Literal["bilinear", "bicubic"]
    antialias: Literal[True]
    exif_transpose: bool
    background: tuple[_Level, _Level, _Level]
    sixteen_bit: Literal["high_byte"]
    polarity: Polarity
    draft: bool

    @classmethod
    def usual(
        cls,
        shape: tuple[int, int, int],
        resize: int,
        mean: tuple[float, ...],
        std: tuple[float, ...],
        *,
        crop: Crop = "center",
        polarity: Polarity = "as_is",
        draft: bool = True,
    ) -> Self:
        """Upright, over white, resized bilinearly, as training makes it; `shape` is height, width, channels."""
        height, width, channels = shape
        return cls(
            mode="L" if channels == 1 else "RGB",
            height=height,
            width=width,
            resize=resize,
            mean=mean,
            std=std,
            crop=crop,
            interpolation="bilinear",
            antialias=True,
            exif_transpose=True,
            background=(255, 255, 255),
            sixteen_bit="high_byte",
            polarity=polarity,
            draft=draft,
        )

    @model_validator(mode="after")
    def _is_consistent(self) -> Self:
        if not len(self.mean) == len(self.std) == self.channels:
            raise ValueError(f"mode {self.mode} needs {self.channels} values of mean and of std")
        if self.resize < max(self.height, self.width):
            raise ValueError(f"resize {self.resize} is smaller than the crop {self.height} x {self.width}")
        if self.polarity != "as_is" and self.mode != "L":
            raise ValueError("polarity light_on_dark is for mode L")
        return self

    @property
    def channels(self) -> int:
        """1 for grey, 3 for colour."""
        return 1 if self.mode == "L" else 3

    @property
    def shape(self) -> tuple[int, int, int]:
        """Height, width, channels of one input image."""
        return self.height, self.width, self.channels
