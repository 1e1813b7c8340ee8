"""Encoded bytes in, the network's input pixels out, as an artifact prescribes: Pillow and numpy only."""

from collections.abc import Collection

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from models.images.crop import CentralCrop
from models.images.errors import CorruptImage, ImageError, UnsupportedImage
from models.images.footprint import decoding_bytes
from models.images.foreign_type import foreign_name
from models.images.image_type import TYPE_NAMES, USUAL_TYPES, ImageType, image_type, listed
from models.images.optional_readers import OPTIONAL_READERS
from models.images.orientation import UPRIGHT
from models.images.picture import Box, Demand
from models.images.plain_png import PlainPng, is_supported
from models.images.preprocessing import Preprocessing
from models.images.readers import READERS

_ALL_READERS = {**READERS, **OPTIONAL_READERS}

_STRIP_PIXELS = 1 << 19  # converted at a time: some 2 ms under Python's lock, 8 MiB of copies

MAX_PIXELS = 89_478_485
"""Pixels; the highest limit that can be set, beyond which Pillow itself warns."""


class Preprocessor:
    """Turns encoded images into pixels; safe to call from several threads at once.

    Images of which more than `max_pixels` would be decoded are refused by their header; at most MAX_PIXELS.
    """

    def __init__(
        self, preprocessing: Preprocessing, max_pixels: int, types: Collection[ImageType] = USUAL_TYPES
    ) -> None:
        if not 0 < max_pixels <= MAX_PIXELS:
            raise ValueError(f"max_pixels is {max_pixels}, must be 1 to {MAX_PIXELS}")
        self._spec, self._shape = preprocessing, preprocessing.shape
        self._types = types
        self._demand = Demand(preprocessing.mode, max_pixels, preprocessing.resize if preprocessing.draft else None)
        self._crop = CentralCrop(preprocessing)
        self._plain_png = self._make_plain_png() if "png" in types else None

    def _make_plain_png(self) -> PlainPng | None:
        """The fast path for images that need no more than decoding, if there are such."""
        width, height = size = self._spec.width, self._spec.height
        if self._crop.keeps(size) and width * height <= self._demand.max_pixels and is_supported():
            return PlainPng(self._spec.mode, width, height)
        return None

    def __call__(self, data: bytes | memoryview) -> NDArray[np.uint8]:
        """Pixels [height, width, channels]; ImageError for anything that is not an image."""
        data = bytes(data)
        if self._plain_png and (samples := self._plain_png.decode(data)):
            return self._polarised(samples)
        kind = image_type(data)
        if kind is None or kind not in self._types:
            raise self._unsupported(kind, data)
        try:
            return self._pixels(kind, data)
        except CorruptImage as error:
            reason, cause = str(error), error.__cause__
        except ImageError:
            raise
        except Exception as error:  # Pillow's decoders raise errors of many kinds, in words of their own
            reason, cause = "its data are damaged or of a kind that is not taken; save it anew", error
        raise CorruptImage(f"the {TYPE_NAMES[kind]} image does not decode: {reason}") from cause

    def memory_bytes(self, data: bytes) -> int:
        """Most memory that decoding the image takes at a time, judged by its header; 0 for what is no image."""
        return decoding_bytes(data, self._demand.shorter_side)

    def _unsupported(self, kind: ImageType | None, data: bytes) -> UnsupportedImage:
        taken = listed(self._types)
        name = TYPE_NAMES[kind] if kind else foreign_name(data)
        if not data:
            return UnsupportedImage(f"there is nothing in it, no {taken} image")
        return UnsupportedImage(f"this is {name}; send {taken}" if name else f"not a {taken} image", kind)

    def _pixels(self, kind: ImageType, data: bytes) -> NDArray[np.uint8]:
        image, extent, orientation, covered = _ALL_READERS[kind](data, self._demand)
        image = self._convert(image)  # the decoded one is free from here on
        if covered:
            self._show_background(image, covered)
        if not self._spec.exif_transpose:
            orientation = UPRIGHT
        return self._polarised(self._crop(image, extent, orientation).tobytes())

    def _polarised(self, samples: bytes) -> NDArray[np.uint8]:
        """Samples as pixels, light on dark where that is asked for."""
        pixels = np.ndarray(self._shape, np.uint8, samples)
        if self._spec.polarity == "light_on_dark" and _ring_mean(samples, self._spec.width) > 127:
            return 255 - pixels
        return pixels

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
        if image.mode.startswith("I;16"):
            image = _high_bytes(image)
        if image.has_transparency_data:
            image = self._over_background(image)
        return image if image.mode == mode else image.convert(mode)

    def _over_background(self, image: Image.Image) -> Image.Image:
        image = image.convert("RGBA")
        background = Image.new("RGBA", image.size, (*self._spec.background, 255))
        return Image.alpha_composite(background, image).convert("RGB")

    def _show_background(self, image: Image.Image, covered: Box) -> None:
        """Paint what the file has no pixels for."""
        (left, top, right, bottom), (width, height) = covered, image.size
        colour = Image.new("RGB", (1, 1), self._spec.background).convert(image.mode).tobytes()
        around = (0, 0, width, top), (0, bottom, width, height), (0, top, left, bottom), (right, top, width, bottom)
        for box in around:
            if box[0] < box[2] and box[1] < box[3]:
                image.paste(tuple(colour), box)


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
