"""Which of the types that can be taken a file is, by its first bytes."""

from collections.abc import Collection
from typing import Literal

ImageType = Literal["png", "jpeg", "webp", "bmp", "gif", "avif", "tiff", "heic"]

USUAL_TYPES: tuple[ImageType, ...] = ("png", "jpeg", "webp", "bmp", "gif")
"""What is taken unless more is asked for: what browsers show and what decodes fast."""

TYPE_NAMES: dict[ImageType, str] = {
    "png": "PNG",
    "jpeg": "JPEG",
    "webp": "WebP",
    "bmp": "BMP",
    "gif": "GIF",
    "avif": "AVIF",
    "tiff": "TIFF",
    "heic": "HEIC",
}

_TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")  # the last two with offsets of 64 bits
# Brands of ISO base media files (ISO 14496-12, "ftyp"): AV1 pictures, and HEVC ones (ISO 23008-12, annex B).
_AVIF = frozenset({b"avif", b"avis"})
_HEIC = frozenset({b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs"})
_MAX_BRANDS = 64  # bytes of compatible brands that are looked at


def image_type(data: bytes) -> ImageType | None:
    """The type that the magic bytes tell, None if they are of none of these types."""
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        return "png"
    if data.startswith(b"\xff\xd8\xff"):
        return "jpeg"
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "webp"
    if data.startswith((b"GIF87a", b"GIF89a")):
        return "gif"
    if data.startswith(b"BM"):
        return "bmp"
    if data.startswith(_TIFF):
        return "tiff"
    return _base_media_type(data) if data[4:8] == b"ftyp" else None


def listed(types: Collection[ImageType]) -> str:
    """Their names, as in a sentence: PNG, JPEG or GIF."""
    *names, last = [name for kind, name in TYPE_NAMES.items() if kind in types]
    return f"{', '.join(names)} or {last}" if names else last


def _base_media_type(data: bytes) -> ImageType | None:
    """Of an ISO base media file: its major brand, or where that is general, those it is compatible with."""
    end = min(int.from_bytes(data[:4]), 16 + _MAX_BRANDS)
    for brand in (data[8:12], *(data[at : at + 4] for at in range(16, end, 4))):
        if brand in _AVIF:
            return "avif"
        if brand in _HEIC:
            return "heic"
    return None
