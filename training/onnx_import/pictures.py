"""Pictures on which a served model is compared with its origin: those given, or made here."""

from io import BytesIO
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from models.images.decoder import MAX_PIXELS, Preprocessor
from models.images.errors import ImageError
from models.images.preprocessing import Preprocessing
from training.errors import OnnxImportError

LEAST_PICTURES = 64
"""Pictures that are compared at least."""

_MOST_PICTURES = 256
"""Pictures of a folder that are compared at most, evenly spread."""

_ORIENTATIONS = (1, 6, 3, 8)
"""EXIF orientations of the JPEGs that are made: as stored, and the three ways to hold a camera otherwise."""

_EXIF_ORIENTATION = 0x0112


_PILLOWS_ERRORS = (OSError, SyntaxError, ValueError, EOFError, Image.DecompressionBombError)
"""What Pillow raises for files that it does not read, some of which the server does."""


class SamplePicture(NamedTuple):
    """A file's name and bytes."""

    name: str
    data: bytes


def read_pictures(folder: Path, preprocessing: Preprocessing) -> list[SamplePicture]:
    """The pictures in a folder and below it that the server and Pillow read; OnnxImportError if they are too few."""
    preprocessor = Preprocessor(preprocessing, MAX_PIXELS)
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    spread = files[:: 1 + len(files) // _MOST_PICTURES]
    pictures = [SamplePicture(path.name, path.read_bytes()) for path in spread]
    readable = [picture for picture in pictures if _is_readable(preprocessor, picture)]
    if len(readable) < LEAST_PICTURES:
        raise OnnxImportError(
            f"{folder} has {len(readable)} pictures that can be read, and {LEAST_PICTURES} are compared at least: give "
            "more, or leave out --pictures, and generated ones are taken"
        )
    return readable


def _is_readable(preprocessor: Preprocessor, picture: SamplePicture) -> bool:
    try:
        preprocessor(picture.data)
        Image.open(BytesIO(picture.data)).load()
    except (ImageError, *_PILLOWS_ERRORS):
        return False
    return True


def make_pictures(height: int, width: int) -> list[SamplePicture]:
    """Textures from coarse to fine with sharp edges, each in colours of its own, larger and smaller than the input.

    JPEG in all ways to hold a camera, PNG with and without transparency, and grey; the same in every call.
    """
    generator = np.random.default_rng(0)
    return [_make(generator, index, height, width) for index in range(LEAST_PICTURES)]


def _make(generator: np.random.Generator, index: int, height: int, width: int) -> SamplePicture:
    size = [max(8, round(side * generator.uniform(0.75, 2.5))) for side in (height, width)]
    colours = _texture(generator, size)
    stream = BytesIO()
    match index % 4:
        case 0 | 1:
            orientation = _ORIENTATIONS[index // 4 % len(_ORIENTATIONS)] if index % 4 else 1
            exif = Image.Exif()
            exif[_EXIF_ORIENTATION] = orientation
            Image.fromarray(colours).save(stream, "JPEG", quality=92, exif=exif)
            return SamplePicture(f"{index:02}.jpg", stream.getvalue())
        case 2:
            Image.fromarray(colours).save(stream, "PNG", compress_level=1)
        case _:
            image = Image.fromarray(colours).convert("RGBA" if index % 8 == 3 else "L")
            if image.mode == "RGBA":
                image.putalpha(Image.fromarray(colours[..., 0]))
            image.save(stream, "PNG", compress_level=1)
    return SamplePicture(f"{index:02}.png", stream.getvalue())


def _texture(generator: np.random.Generator, size: list[int]) -> NDArray[np.uint8]:
    """Levels [h, w, 3]: noise that is weaker the finer it is, as in photographs, over stripes of few pixels."""
    height, width = size
    rows, columns = np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None]
    strength = 1 / np.maximum(np.hypot(rows, columns), 1 / max(size))
    planes = []
    for _ in range(3):
        phases = np.exp(2j * np.pi * generator.random(strength.shape))
        plane = np.fft.irfft2(strength * phases, s=(height, width))
        planes.append(generator.uniform(60, 200) + generator.uniform(20, 60) * plane / plane.std())
    across = np.add.outer(np.arange(height) * generator.uniform(-1, 1), np.arange(width))
    stripes = 40 * np.sign(np.sin(2 * np.pi * across / generator.uniform(3, 12)))
    return np.asarray(np.clip(np.stack(planes, axis=2) + stripes[..., None], 0, 255), np.uint8)
