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

from models.images.crop import UPRIGHT, CentralCrop
from models.images.footprint import decoding_bytes
from models.images.headers import (
    ImageType,
    bare_jpeg,
    check_bmp,
    exif_orientation,
    gif_size,
    image_type,
    still_png,
    webp_size,
)
from models.images.plain_png import PlainPng, is_supported
from models.images.preprocessing import Preprocessing

# Each type's own class: `Image.open` would try others, and takes longer.
_DECODERS: dict[ImageType, type[ImageFile]] = {
    "png": PngImageFile,
    "jpeg": JpegImageFile,
    "webp": WebPImageFile,
    "bmp": BmpImageFile,
    "gif": GifImageFile,
}

_STRIP_PIXELS = 1 << 19  # converted at a time: some 2 ms under Python's lock, 8 MiB of copies

MAX_PIXELS = 89_478_485
"""Pixels; the highest limit that can be set, beyond which Pillow itself warns."""


class ImageError(Exception):
    """The bytes are not an image that can be classified; the message is fit for the client."""


class UnsupportedImage(ImageError):
    """The bytes are of no supported image type."""


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
        self._spec, self._shape = preprocessing, preprocessing.shape
        self._max_pixels = max_pixels
        self._crop = CentralCrop(preprocessing)
        self._plain_png = self._make_plain_png()

    def _make_plain_png(self) -> PlainPng | None:
        """The fast path for images that need no more than decoding, if there are such."""
        width, height = size = self._spec.width, self._spec.height
        if self._crop.keeps(size) and width * height <= self._max_pixels and is_supported():
            return PlainPng(self._spec.mode, width, height)
        return None

    def __call__(self, data: bytes | memoryview) -> NDArray[np.uint8]:
        """Pixels [height, width, channels]; ImageError for anything that is not an image."""
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
        except Exception as error:  # Pillow's decoders raise errors of many kinds
            raise CorruptImage(f"the {kind.upper()} image does not decode: {error}") from error

    def memory_bytes(self, data: bytes) -> int:
        """Most memory that decoding the image takes at a time, judged by its header; 0 for what is no image."""
        return decoding_bytes(data, self._spec.resize if self._spec.draft else None)

    def _pixels(self, kind: ImageType, data: bytes) -> NDArray[np.uint8]:
        image, extent, exif = self._decode(kind, data)
        orientation = exif_orientation(exif) if exif and self._spec.exif_transpose else UPRIGHT
        image = self._convert(image)  # the decoded one is free from here on
        return self._polarised(self._crop(image, extent, orientation).tobytes())

    def _polarised(self, samples: bytes) -> NDArray[np.uint8]:
        """Samples as pixels, light on dark where that is asked for."""
        pixels = np.frombuffer(samples, np.uint8).reshape(self._shape)
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
        """The image in the network's mode, opaque; strip by strip, since each step holds Python's lock and a copy."""
        mode, (width, height) = self._spec.mode, image.size
        rows = max(1, _STRIP_PIXELS // width)
        if rows >= height or (image.mode == mode and not image.has_transparency_data):
            return self._convert_whole(image)
        converted = Image.new(mode, image.size)
        for top in range(0, height, rows):
            box = 0, top, width, min(top + rows, height)
            converted.paste(self._convert_whole(image.crop(box)), box)
        return converted

    def _convert_whole(self, image: Image.Image) -> Image.Image:
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
    ring = grey[:width] + grey[-width:] + grey[width:-width:width] + grey[2 * width - 1 : -width : width]
    return sum(ring) / len(ring)
