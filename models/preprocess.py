"""Encoded bytes in, the network's input pixels out, as an artifact prescribes: Pillow and numpy only."""

import math
from io import BytesIO
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from PIL.BmpImagePlugin import BmpImageFile
from PIL.GifImagePlugin import GifImageFile
from PIL.ImageFile import ImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.WebPImagePlugin import WebPImageFile

from models.headers import (
    ImageType,
    bare_jpeg,
    check_bmp,
    exif_orientation,
    gif_size,
    image_type,
    still_png,
    webp_size,
)
from models.metadata import Preprocessing
from models.plain_png import PlainPng, is_supported

# Each type's own class: `Image.open` would try others, and takes longer.
_DECODERS: dict[ImageType, type[ImageFile]] = {
    "png": PngImageFile,
    "jpeg": JpegImageFile,
    "webp": WebPImageFile,
    "bmp": BmpImageFile,
    "gif": GifImageFile,
}
# With the radius, in pixels of the longer scale, that each reaches.
_FILTERS = {"bilinear": (Image.Resampling.BILINEAR, 1), "bicubic": (Image.Resampling.BICUBIC, 2)}
# EXIF orientation -> how the stored image is turned upright, and whether that mirrors its x and y axis.
_TURNS = {
    2: (Image.Transpose.FLIP_LEFT_RIGHT, True, False),
    3: (Image.Transpose.ROTATE_180, True, True),
    4: (Image.Transpose.FLIP_TOP_BOTTOM, False, True),
    5: (Image.Transpose.TRANSPOSE, False, False),
    6: (Image.Transpose.ROTATE_270, False, True),
    7: (Image.Transpose.TRANSVERSE, True, True),
    8: (Image.Transpose.ROTATE_90, True, False),
}
_UPRIGHT, _FIRST_SIDEWAYS = 1, 5

MAX_PIXELS = 89_478_485
"""The most that an image may be allowed to have: of more, Pillow warns by itself."""

_Box = tuple[float, float, float, float]  # left, top, right, bottom


class ImageError(Exception):
    """The bytes are not an image that can be classified; the message is fit for the client."""


class UnsupportedImage(ImageError):
    """The bytes are none of the image types taken."""


class ImageTooLarge(ImageError):
    """The header announces more pixels than are allowed."""


class CorruptImage(ImageError):
    """The bytes say that they are an image and do not decode."""


class _Stored(NamedTuple):
    """A decoded image, not yet turned upright."""

    image: Image.Image
    extent: tuple[float, float]
    """Width and height of the picture in the image's pixels: less than its size where a JPEG's blocks overhang."""
    exif: bytes


class Preprocessor:
    """Turns encoded images into pixels; safe to call from several threads at once.

    Images whose header announces more than `max_pixels` are refused before they are decoded; at most MAX_PIXELS.
    """

    def __init__(self, preprocessing: Preprocessing, max_pixels: int) -> None:
        if not 0 < max_pixels <= MAX_PIXELS:
            raise ValueError(f"max_pixels is {max_pixels}, must be 1 to {MAX_PIXELS}")
        self._spec = preprocessing
        self._max_pixels = max_pixels
        self._size = preprocessing.width, preprocessing.height
        self._filter, self._filter_radius = _FILTERS[preprocessing.interpolation]
        self._unchanged_by_resize = preprocessing.height == preprocessing.width == preprocessing.resize
        self._plain_png = self._make_plain_png()

    def _make_plain_png(self) -> PlainPng | None:
        """The short way for images that need no more than decoding."""
        width, height = self._size
        if self._unchanged_by_resize and width * height <= self._max_pixels and is_supported():
            return PlainPng(self._spec.mode, width, height)
        return None

    def __call__(self, data: bytes | memoryview) -> NDArray[np.uint8]:
        """Pixels [height, width, channels]; an ImageError for whatever is not an image."""
        data = bytes(data)
        if self._plain_png and (samples := self._plain_png.decode(data)):
            return self._polarised(samples)
        kind = image_type(data)
        if kind is None:
            raise UnsupportedImage("not a PNG, JPEG, WebP, BMP or GIF image")
        try:
            return self._pixels(kind, data)
        except ImageError:
            raise
        except Exception as error:  # Pillow's decoders raise whatever their parsers stumble over
            raise CorruptImage(f"the {kind.upper()} image does not decode: {error}") from error

    def _pixels(self, kind: ImageType, data: bytes) -> NDArray[np.uint8]:
        stored = self._decode(kind, data)
        orientation = exif_orientation(stored.exif) if stored.exif and self._spec.exif_transpose else _UPRIGHT
        image = self._convert(stored.image)
        if orientation != _UPRIGHT or image.size != self._size or not self._unchanged_by_resize:
            image = self._resize(image, stored.extent, orientation)
        return self._polarised(image.tobytes())

    def _polarised(self, samples: bytes) -> NDArray[np.uint8]:
        """Samples as pixels, light on dark where that is asked for."""
        pixels = np.frombuffer(samples, np.uint8).reshape(self._spec.shape)
        if self._spec.polarity == "light_on_dark" and _ring_mean(samples, self._spec.width) > 127:
            return 255 - pixels
        return pixels

    def _decode(self, kind: ImageType, data: bytes) -> _Stored:
        exif = b""
        if kind == "png":
            data = still_png(data)
        elif kind == "jpeg":
            data, exif = bare_jpeg(data)
        elif kind == "bmp":
            check_bmp(data)
        else:
            self._check_size(webp_size(data) if kind == "webp" else gif_size(data))
        image: Image.Image = _DECODERS[kind](BytesIO(data))
        self._check_size(image.size)
        extent = self._draft(image) if kind == "jpeg" and self._spec.draft else image.size
        image.load()
        return _Stored(image, extent, image.info.get("exif", exif))

    def _check_size(self, size: tuple[int, int]) -> None:
        width, height = size
        if width * height > self._max_pixels:
            raise ImageTooLarge(f"{width} x {height} pixels, at most {self._max_pixels} are allowed")

    def _draft(self, image: Image.Image) -> tuple[float, float]:
        """Let the JPEG decoder shrink while no side gets shorter than after the resize; return the new extent."""
        size = image.size
        scale = self._spec.resize / min(size)
        drafted = image.draft(self._spec.mode, (math.ceil(size[0] * scale), math.ceil(size[1] * scale)))
        return drafted[1][2:] if drafted else size

    def _convert(self, image: Image.Image) -> Image.Image:
        """The image in the network's mode, opaque."""
        mode = self._spec.mode
        if image.mode == "I;16":
            image = _high_bytes(image)
        if image.has_transparency_data:
            image = self._over_background(image)
        return image if image.mode == mode else image.convert(mode)

    def _over_background(self, image: Image.Image) -> Image.Image:
        image = image.convert("RGBA")
        background = Image.new("RGBA", image.size, (*self._spec.background, 255))
        return Image.alpha_composite(background, image).convert("RGB")

    def _resize(self, image: Image.Image, extent: tuple[float, float], orientation: int) -> Image.Image:
        """Shorter side to `resize`, then the centre, then upright: one resampling of the box that the crop shows."""
        if orientation == _UPRIGHT:
            return self._resample(image, self._size, _crop_box(extent, self._size, self._spec.resize))
        turn, *mirrored = _TURNS[orientation]
        width, height = self._size
        size = (height, width) if orientation >= _FIRST_SIDEWAYS else (width, height)
        box = _crop_box(extent, size, self._spec.resize, *mirrored)
        return self._resample(image, size, box).transpose(turn)

    def _resample(self, image: Image.Image, size: tuple[int, int], box: _Box) -> Image.Image:
        """Resize the box, along the rows first in every version of Pillow.

        Pillow 13 takes the columns of a tall image first, and then rounds differently: golden examples would not fit.
        """
        left, top, right, bottom = box
        if top > 0:
            reach = 1 + self._filter_radius * max(1, (bottom - top) / size[1])
            first, last = max(0, math.floor(top - reach)), min(image.height, math.ceil(bottom + reach))
            image = image.resize((size[0], last - first), self._filter, (left, first, right, last))
            box = 0, top - first, size[0], bottom - first
        return image.resize(size, self._filter, box)


def _crop_box(
    extent: tuple[float, float],
    crop: tuple[int, int],
    shorter_side: int,
    mirrored_x: bool = False,
    mirrored_y: bool = False,
) -> _Box:
    """The part of a picture of this extent that a resize to `shorter_side` and a central `crop` would show.

    Extents, sizes and boxes are width first. Lengths are rounded where torchvision's Resize and CenterCrop round them,
    from the other end on an axis that will be mirrored.
    """
    shortest = min(extent)
    starts, ends = [], []
    for length, kept, mirrored in zip(extent, crop, (mirrored_x, mirrored_y), strict=True):
        resized = int(shorter_side * length / shortest)
        start = round((resized - kept) / 2)
        if mirrored:
            start = resized - kept - start
        starts.append(start * length / resized)
        ends.append(min((start + kept) * length / resized, length))
    return starts[0], starts[1], ends[0], ends[1]


def _high_bytes(image: Image.Image) -> Image.Image:
    """A grey image of 16 bits a sample as one of 8, its transparent level as alpha."""
    samples = np.asarray(image)
    grey = Image.fromarray((samples >> 8).astype(np.uint8))
    transparent = image.info.get("transparency")
    if transparent is not None:
        grey.putalpha(Image.fromarray(((samples != transparent) * 255).astype(np.uint8)))
    return grey


def _ring_mean(grey: bytes, width: int) -> float:
    """Mean of the outermost ring of grey pixels; on so few, bytes are summed faster than an array."""
    rows = grey[:width], grey[-width:]
    columns = grey[width:-width:width], grey[2 * width - 1 : -width : width]
    ring = b"".join(rows + columns)
    return sum(ring) / len(ring)
