"""Resize, central crop and EXIF orientation in one resampling of just the pixels that are shown."""

import math

from PIL import Image

from models.images.orientation import UPRIGHT
from models.images.preprocessing import Preprocessing

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
_FIRST_SIDEWAYS = 5  # from this EXIF orientation on, width and height are swapped
# Pillow's filter, and its radius in pixels of the coarser scale.
_FILTERS = {"bilinear": (Image.Resampling.BILINEAR, 1), "bicubic": (Image.Resampling.BICUBIC, 2)}

_Size = tuple[int, int]  # width, height
_Box = tuple[float, float, float, float]  # left, top, right, bottom


class CentralCrop:
    """Brings an image's shorter side to `resize`, takes the centre, or squeezes all of it, and turns it upright.

    The pixels are those of torchvision's Resize and CenterCrop, to a grey level or two, in every version of Pillow.
    """

    def __init__(self, preprocessing: Preprocessing) -> None:
        self._size = preprocessing.width, preprocessing.height
        self._shorter_side = preprocessing.resize
        self._squash = preprocessing.crop == "squash"
        self._filter, self._radius = _FILTERS[preprocessing.interpolation]

    def keeps(self, size: _Size) -> bool:
        """Whether an upright image of this size stays as it is."""
        return size == self._size and (self._squash or size == (self._shorter_side, self._shorter_side))

    def __call__(self, image: Image.Image, extent: tuple[float, float], orientation: int) -> Image.Image:
        """The crop of a picture that fills `extent` (width, height) of the image, from its left upper corner."""
        if orientation == UPRIGHT:
            if self.keeps(image.size):
                return image
            return self._resample(image, self._size, self._shown(extent, self._size))
        turn, *mirrored = _TURNS[orientation]
        width, height = self._size
        size = (height, width) if orientation >= _FIRST_SIDEWAYS else (width, height)
        return self._resample(image, size, self._shown(extent, size, *mirrored)).transpose(turn)

    def _shown(self, extent: tuple[float, float], size: _Size, *mirrored: bool) -> _Box:
        if self._squash:
            return 0, 0, *extent
        return _shown(extent, size, self._shorter_side, *mirrored)

    def _resample(self, image: Image.Image, size: _Size, box: _Box) -> Image.Image:
        """Resize the box, along the rows first in every version of Pillow.

        Pillow 13 takes the columns of a tall image first, and then rounds differently: golden examples would not fit.
        """
        left, top, right, bottom = box
        if top > 0 or self._squash:
            reach = 1 + self._radius * max(1, (bottom - top) / size[1])
            first, last = max(0, math.floor(top - reach)), min(image.height, math.ceil(bottom + reach))
            image = image.resize((size[0], last - first), self._filter, (left, first, right, last))
            box = 0, top - first, size[0], bottom - first
        return image.resize(size, self._filter, box)


def _shown(
    extent: tuple[float, float], crop: _Size, shorter_side: int, mirrored_x: bool = False, mirrored_y: bool = False
) -> _Box:
    """The part of a picture that a resize of its shorter side and a central crop would show.

    Lengths are rounded where torchvision rounds them, from the other end on an axis that will be mirrored.
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
