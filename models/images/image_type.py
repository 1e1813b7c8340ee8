"""Which type of file it is, by its first bytes: those that can be taken, and others by their name."""

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

# Magic bytes at the start -> what the file is called.
_FOREIGN = {
    b"%PDF-": "PDF",
    b"%!PS": "PostScript",
    b"<svg": "SVG",
    b"<?xml": "XML",
    b"<!DOCTYPE": "HTML",
    b"<html": "HTML",
    b"\0\0\0\x0cjP  \r\n": "JPEG 2000",
    b"\xff\x4f\xff\x51": "JPEG 2000",
    b"\0\0\0\x0cJXL \r\n": "JPEG XL",
    b"\xff\x0a": "JPEG XL",
    b"\0\0\1\0": "an icon (ICO)",
    b"8BPS": "Photoshop (PSD)",
    b"FUJIFILMCCD-RAW": "a raw photograph (RAF)",
    b"PK\3\4": "ZIP",
    b"\x1f\x8b": "gzip",
    b"\x28\xb5\x2f\xfd": "Zstandard",
    b"7z\xbc\xaf\x27\x1c": "7-Zip",
    b"\x1aE\xdf\xa3": "a film (Matroska, WebM)",
    b"data:image/": "a data: URL",
    b"iVBORw0KGgo": "PNG in base64",
    b"/9j/": "JPEG in base64",
    b"UklGR": "WebP in base64",
    b"R0lGOD": "GIF in base64",
}


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


def foreign_name(data: bytes) -> str | None:
    """What the file is called if it is of a known type that is never taken."""
    if data[4:8] == b"ftyp":
        return "a film (MP4, QuickTime)" if not data.startswith(b"crx ", 8) else "a raw photograph (CR3)"
    head = data[:64].lstrip(b"\xef\xbb\xbf \t\r\n")
    return next((name for magic, name in _FOREIGN.items() if head.startswith(magic)), None)


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
