import struct

import pytest
from PIL import Image

from models.images.image_type import TYPE_NAMES, image_type, listed
from tests.models.images.pictures import encode


@pytest.mark.parametrize("file_format", ["PNG", "JPEG", "WEBP", "BMP", "GIF", "AVIF", "TIFF"])
def test_pillows_files_are_known_by_their_magic(file_format: str):
    kind = image_type(encode(Image.new("L", (16, 16)), file_format))
    assert kind == file_format.lower()
    assert TYPE_NAMES[kind].upper() == file_format


@pytest.mark.parametrize("file_format", ["ICO", "PPM", "TGA", "PCX", "JPEG2000"])
def test_other_files_are_not_known(file_format: str):
    assert image_type(encode(Image.new("L", (16, 16)), file_format)) is None


def base_media(*brands: bytes) -> bytes:
    """The first box of an ISO base media file: its major brand, a version, and what it is compatible with."""
    content = b"ftyp" + brands[0] + bytes(4) + b"".join(brands[1:])
    return struct.pack(">I", len(content) + 4) + content + bytes(100)


@pytest.mark.parametrize(
    ("brands", "kind"),
    [
        ((b"heic", b"mif1", b"heic"), "heic"),
        ((b"mif1", b"mif1", b"heix"), "heic"),
        ((b"msf1", b"hevc"), "heic"),
        ((b"avif", b"mif1"), "avif"),
        ((b"mif1", b"miaf", b"avif"), "avif"),
        ((b"mp42", b"isom"), None),
        ((b"mif1",), None),
    ],
)
def test_base_media_files_are_known_by_their_brands(brands: tuple[bytes, ...], kind: str | None):
    assert image_type(base_media(*brands)) == kind


def test_types_are_listed_as_in_a_sentence():
    assert listed(["gif"]) == "GIF"
    assert listed({"gif", "png"}) == "PNG or GIF"
    assert listed(["webp", "jpeg", "heic"]) == "JPEG, WebP or HEIC"
