import struct

import pytest
from PIL import Image

from models.images.image_type import TYPE_NAMES, foreign_name, image_type, listed
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


@pytest.mark.parametrize(
    ("data", "name"),
    [
        (encode(Image.new("L", (9, 9)), "PDF"), "PDF"),
        (encode(Image.new("L", (16, 16)), "JPEG2000"), "JPEG 2000"),
        (encode(Image.new("L", (16, 16)), "ICO"), "an icon (ICO)"),
        (b"\xef\xbb\xbf\n<svg xmlns='http://www.w3.org/2000/svg'/>", "SVG"),
        (base_media(b"mp42", b"isom"), "a film (MP4, QuickTime)"),
        (base_media(b"crx "), "a raw photograph (CR3)"),
        (b"iVBORw0KGgoAAAANSUhEUg", "PNG in base64"),
        (b"hello", None),
        (b"", None),
    ],
)
def test_files_that_are_never_taken_have_a_name(data: bytes, name: str | None):
    assert foreign_name(data) == name


def test_types_are_listed_as_in_a_sentence():
    assert listed(["gif"]) == "GIF"
    assert listed({"gif", "png"}) == "PNG or GIF"
    assert listed(["webp", "jpeg", "heic"]) == "JPEG, WebP or HEIC"
