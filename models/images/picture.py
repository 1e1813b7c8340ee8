"""A decoded picture, not yet turned upright, and what is asked of its decoder."""

from typing import Literal, NamedTuple

from PIL import Image

from models.images.errors import ImageTooLarge
from models.images.orientation import UPRIGHT

Size = tuple[int, int]  # width, height
Box = tuple[int, int, int, int]  # left, top, right, bottom


class Picture(NamedTuple):
    """A decoded image and what of it is to be seen."""

    image: Image.Image
    extent: tuple[float, float]
    """Width and height of the picture in the image's pixels: less than its size where a JPEG's blocks overhang."""
    orientation: int = UPRIGHT
    covered: Box | None = None
    """The part that the file has pixels for; elsewhere the background is seen. None: all."""


class Demand(NamedTuple):
    """What a decoder may make of a file."""

    mode: Literal["L", "RGB"]
    max_pixels: int
    shorter_side: int | None
    """The length to which it may shrink a JPEG, in pixels; None: not at all."""

    def check(self, size: Size, declared: Size | None = None) -> None:
        """ImageTooLarge if that many pixels must not be decoded; `declared`: the size in the file, if it is another."""
        if size[0] * size[1] > self.max_pixels:
            shrunk = f", decoded as {size[0]} x {size[1]}" if declared not in (None, size) else ""
            width, height = declared or size
            raise ImageTooLarge(f"{width} x {height} pixels{shrunk}, at most {self.max_pixels} are allowed")
