"""Encoded bytes in, the network's input pixels out, as an artifact prescribes: Pillow and numpy only."""

from io import BytesIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps
from PIL.BmpImagePlugin import BmpImageFile
from PIL.GifImagePlugin import GifImageFile
from PIL.ImageFile import ImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.WebPImagePlugin import WebPImageFile

from models.headers import ImageType, check_bmp, check_jpeg, gif_size, image_type, still_png, webp_size
from models.metadata import Preprocessing

# Each type's own class: `Image.open` would try others, and takes longer.
_DECODERS: dict[ImageType, type[ImageFile]] = {
    "png": PngImageFile,
    "jpeg": JpegImageFile,
    "webp": WebPImageFile,
    "bmp": BmpImageFile,
    "gif": GifImageFile,
}
_FILTERS = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}
_ORIENTATION = 0x0112


class ImageError(Exception):
    """The bytes are not an image that can be classified; the message is fit for the client."""


class UnsupportedImage(ImageError):
    """The bytes are none of the image types taken."""


class ImageTooLarge(ImageError):
    """The header announces more pixels than are allowed."""


class CorruptImage(ImageError):
    """The bytes say that they are an image and do not decode."""


class Preprocessor:
    """Turns encoded images into pixels; safe to call from several threads at once.

    Images whose header announces more than `max_pixels` are refused before they are decoded.
    """

    def __init__(self, preprocessing: Preprocessing, max_pixels: int) -> None:
        self._spec = preprocessing
        self._max_pixels = max_pixels
        self._size = preprocessing.width, preprocessing.height
        self._filter = _FILTERS[preprocessing.interpolation]
        self._unchanged_by_resize = preprocessing.height == preprocessing.width == preprocessing.resize

    def __call__(self, data: bytes | memoryview) -> NDArray[np.uint8]:
        """Pixels [height, width, channels]; an ImageError for whatever is not an image."""
        data = bytes(data)
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
        image = self._decode(kind, data)
        if self._spec.exif_transpose and "exif" in image.info:
            image = _upright(image)
        grey_or_rgb = self._resize(self._convert(image)).tobytes()
        pixels = np.frombuffer(grey_or_rgb, np.uint8).reshape(self._spec.shape)
        if self._spec.polarity == "light_on_dark" and _ring_mean(grey_or_rgb, self._spec.width) > 127:
            return 255 - pixels
        return pixels

    def _decode(self, kind: ImageType, data: bytes) -> Image.Image:
        if kind == "png":
            data = still_png(data)
        elif kind == "jpeg":
            check_jpeg(data)
        elif kind == "bmp":
            check_bmp(data)
        elif kind == "webp":
            self._check_size(webp_size(data))
        elif kind == "gif":
            self._check_size(gif_size(data))
        image: Image.Image = _DECODERS[kind](BytesIO(data))
        self._check_size(image.size)
        if kind == "jpeg" and self._spec.draft:
            self._draft(image)
        image.load()
        return image

    def _check_size(self, size: tuple[int, int]) -> None:
        width, height = size
        if width * height > self._max_pixels:
            raise ImageTooLarge(f"{width} x {height} pixels, at most {self._max_pixels} are allowed")

    def _draft(self, image: Image.Image) -> None:
        """Let the JPEG decoder shrink by 2, 4 or 8 while no side gets shorter than the resize leaves it."""
        shorter = self._spec.resize
        scale = shorter / min(image.size)
        # Pillow shrinks by no more than either side allows, so that the orientation does not matter.
        image.draft(self._spec.mode, (max(shorter, int(image.width * scale)), max(shorter, int(image.height * scale))))

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

    def _resize(self, image: Image.Image) -> Image.Image:
        """Shorter side to `resize`, then the centre: one resampling of the box that the crop shows."""
        if image.size == self._size and self._unchanged_by_resize:
            return image
        box = _crop_box(image.size, self._size, self._spec.resize)
        return image.resize(self._size, self._filter, box)


def _crop_box(size: tuple[int, int], crop: tuple[int, int], shorter_side: int) -> tuple[float, float, float, float]:
    """The part of an image of `size` that a resize to `shorter_side` and a central `crop` would show.

    Sizes and boxes are width first. Lengths are rounded where torchvision's Resize and CenterCrop round them.
    """
    shortest = min(size)
    starts, ends = [], []
    for length, kept in zip(size, crop, strict=True):
        resized = int(shorter_side * length / shortest)
        start = round((resized - kept) / 2)
        starts.append(start * length / resized)
        ends.append(min((start + kept) * length / resized, length))
    return starts[0], starts[1], ends[0], ends[1]


def _upright(image: Image.Image) -> Image.Image:
    """The image turned as its EXIF orientation asks; damaged EXIF beside sound pixels asks for nothing."""
    try:
        orientation = image.getexif().get(_ORIENTATION, 1)
    except Exception:
        return image
    return image if orientation == 1 else ImageOps.exif_transpose(image)


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
