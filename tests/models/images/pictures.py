"""Made pictures, and the pixels that a preprocessor makes of them without a warning."""

import dataclasses
import struct
import warnings
import zlib
from io import BytesIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from models.images.decoder import Preprocessor
from models.images.preprocessing import Preprocessing

MAX_PIXELS = 2_000_000
GREY = Preprocessing.usual((24, 24, 1), 24, (0.5,), (0.5,), draft=False)
COLOUR = dataclasses.replace(GREY, mode="RGB", mean=(0.5,) * 3, std=(0.5,) * 3)


def encode(image: Image.Image, file_format: str = "PNG", **options: object) -> bytes:
    stream = BytesIO()
    image.save(stream, file_format, **options)
    return stream.getvalue()


def noise(mode: str, width: int = 24, height: int = 24) -> Image.Image:
    channels = len(Image.new(mode, (1, 1)).getbands())
    samples = np.random.default_rng(7).integers(0, 256, (height, width, channels), dtype=np.uint8)
    return Image.merge(mode, [Image.fromarray(samples[:, :, channel]) for channel in range(channels)])


def smooth(mode: str, width: int, height: int) -> Image.Image:
    return noise(mode, 8, 8).resize((width, height), Image.Resampling.BICUBIC)


def pixels_of(image: Image.Image) -> NDArray[np.uint8]:
    return np.asarray(image).reshape(image.height, image.width, -1)


def run(data: bytes, spec: Preprocessing = GREY) -> NDArray[np.uint8]:
    """Pixels, once it is sure that nothing was written to the server's log: a warning is no error here."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            return Preprocessor(spec, MAX_PIXELS)(data)
        finally:
            assert not caught


def chunk(kind: bytes, data: bytes = b"") -> bytes:
    """One chunk of a PNG."""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def hand_made_png(
    width: int, height: int, depth: int, colour: int, rows: bytes, *chunks: bytes, interlaced: bool = False
) -> bytes:
    """A PNG of any kind, also one that Pillow does not write; each row begins with its filter's number."""
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, interlaced))
    return b"\x89PNG\r\n\x1a\n" + header + b"".join(chunks) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND")
