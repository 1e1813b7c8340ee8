"""Readers of the types that are taken only where they are asked for: TIFF and AVIF by Pillow, HEIC by pillow-heif."""

import ctypes
from collections.abc import Callable
from functools import cache
from importlib.util import find_spec
from io import BytesIO

from PIL import TiffImagePlugin, _imaging, features
from PIL.ImageFile import ImageFile

from models.images.av1 import avif_size
from models.images.base_media import largest_picture
from models.images.image_type import ImageType
from models.images.orientation import orientation
from models.images.picture import Demand, Picture
from models.images.readers import as_told
from models.images.tiff import first_page


class _UnturnedTiff(TiffImagePlugin.TiffImageFile):
    """Without the end of loading, which parses directories without bound, and turns the image."""

    def load_end(self) -> None:
        pass


@cache
def _quieten_libtiff() -> None:
    """It writes lines about damaged files to the standard error: into the server's log."""
    ctypes.CDLL(_imaging.__file__).TIFFSetErrorHandler(None)


def read_tiff(data: bytes, demand: Demand) -> Picture:
    """The first page of a TIFF."""
    _quieten_libtiff()
    page = first_page(data)
    demand.check(page.size)
    demand.check(page.tile)
    image = _UnturnedTiff(BytesIO(page.data))
    image.load()
    xmp = image.info.get("xmp", b"")
    return Picture(image, image.size, page.orientation or orientation([], xmp if isinstance(xmp, bytes) else b""))


def read_avif(data: bytes, demand: Demand) -> Picture:
    """An AVIF, or the first picture of a sequence."""
    from PIL import AvifImagePlugin

    demand.check(avif_size(data))
    data = _as_still(data)
    AvifImagePlugin.DEFAULT_MAX_THREADS = 1  # our threads are as many as cores
    image = AvifImagePlugin.AvifImageFile(BytesIO(data))
    demand.check(image.size)
    image.load()
    return as_told(image)


def _as_still(avif: bytes) -> bytes:
    """The file as one whose picture is that of its items, which were looked at, not the first of a film."""
    return b"".join((avif[:8], b"avif", memoryview(avif)[12:])) if avif.startswith(b"avis", 8) else avif


def read_heic(data: bytes, demand: Demand) -> Picture:
    """The primary picture of a HEIC, upright: in this type EXIF does not count."""
    import pillow_heif

    demand.check(largest_picture(data))
    pillow_heif.options.DECODE_THREADS = 1
    decode: Callable[[BytesIO], ImageFile] = pillow_heif.HeifImageFile
    image = decode(BytesIO(data))
    demand.check(image.size)
    image.load()
    return Picture(image, image.size)


OPTIONAL_READERS: dict[ImageType, Callable[[bytes, Demand], Picture]] = {
    "tiff": read_tiff,
    "avif": read_avif,
    "heic": read_heic,
}


def lacks(kind: ImageType) -> str | None:
    """What must be installed before this type can be read, if something must."""
    if kind == "heic" and find_spec("pillow_heif") is None:
        return "pillow-heif: pip install 'resnet-serve[heic]'"
    if kind == "avif" and not features.check("avif"):
        return "a Pillow that is built with AVIF"
    if kind == "tiff" and not features.check("libtiff"):
        return "a Pillow that is built with libtiff"
    return None
