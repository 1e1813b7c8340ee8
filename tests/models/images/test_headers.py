import struct
from io import BytesIO
from typing import Any

import pytest
from PIL import Image
from PIL.BmpImagePlugin import BmpImageFile

from models.images.errors import CorruptImage
from models.images.headers import bmp_size, gif_size, webp_size, webp_with_alpha
from tests.models.images.pictures import encode


def made(file_format: str, size: tuple[int, int], mode: str = "L", **options: object) -> bytes:
    return encode(Image.new(mode, size, 100), file_format, **options)


@pytest.mark.parametrize(
    "options", [{"mode": "RGB"}, {"lossless": True}, {"exif": b"Exif\0\0II*\0"}], ids=["VP8 ", "VP8L", "VP8X"]
)
@pytest.mark.parametrize("size", [(1, 1), (13, 29), (300, 2)])
def test_a_webps_size_is_pillows(size: tuple[int, int], options: dict[str, Any]):
    assert webp_size(made("WEBP", size, **options)) == size


def test_a_webp_without_a_picture_is_refused():
    with pytest.raises(CorruptImage, match="ends before its picture"):
        webp_size(b"RIFF\x10\0\0\0WEBPALPH" + bytes(20))


def test_a_webp_that_is_shorter_than_it_says_is_cut_off():
    data = made("WEBP", (13, 29))
    with pytest.raises(CorruptImage, match=f"cut off after {len(data) - 2} of {len(data)} bytes"):
        webp_size(data[:-2])


def test_only_an_animation_becomes_one_with_alpha():
    frames = {"save_all": True, "append_images": [Image.new("RGB", (13, 29), 7)]}
    still, animated = made("WEBP", (13, 29), "RGB", exif=b"Exif\0\0II*\0"), made("WEBP", (13, 29), "RGB", **frames)
    assert webp_with_alpha(still) == still
    assert [Image.open(BytesIO(data)).mode for data in (animated, webp_with_alpha(animated))] == ["RGB", "RGBA"]


def gif(screen: tuple[int, int], frame: tuple[int, int, int, int], extensions: bytes = b"") -> bytes:
    header = b"GIF89a" + struct.pack("<HHBBB", *screen, 0x80, 0, 0) + bytes(6)
    return header + extensions + b"," + struct.pack("<HHHHB", *frame, 0) + b"\x02\x02\x4c\x01\0;"


@pytest.mark.parametrize("frame", [(0, 0, 13, 29), (3, 4, 5, 6), (10, 0, 13, 5), (0, 20, 5, 29)])
def test_a_gifs_size_is_pillows(frame: tuple[int, int, int, int]):
    data = gif((13, 29), frame, b"!\xf9\x04\0\0\0\0\0" + b"!\xfe\x03abc\x02de\0")
    left, top, width, height = frame
    assert gif_size(data) == (Image.open(BytesIO(data)).size, (left, top, left + width, top + height))


@pytest.mark.parametrize(
    "between", [b"", b"\0", b";", b"!\xfe" + b"\x01a" * 200_000 + b"\0"], ids=["end", "junk", "trailer", "long"]
)
def test_a_gif_without_a_frame_soon_is_refused(between: bytes):
    data = gif((13, 29), (0, 0, 13, 29), between)
    if not between:
        data = data[:19]
    with pytest.raises(CorruptImage, match="ends before its picture"):
        gif_size(data)


def bmp(header: bytes) -> bytes:
    return b"BM" + struct.pack("<IHHI", 0, 0, 0, 14 + len(header) + 4) + header + bytes(4)


@pytest.mark.parametrize(
    "header",
    [
        struct.pack("<IiiHHIIiiII", 40, 13, 29, 1, 24, 0, 0, 0, 0, 0, 0),
        struct.pack("<IiiHHIIiiII", 40, 13, -29, 1, 24, 0, 0, 0, 0, 0, 0),
        struct.pack("<IHHHH", 12, 13, 29, 1, 24),
    ],
    ids=["from below", "from the top", "OS/2"],
)
def test_a_bmps_size_is_pillows(header: bytes):
    assert bmp_size(bmp(header)) == BmpImageFile(BytesIO(bmp(header))).size == (13, 29)


def test_only_a_small_bmp_may_be_run_length_encoded():
    header = bmp(struct.pack("<IiiHHIIiiII", 40, 9, 9, 1, 8, 1, 0, 0, 0, 0, 0))
    bmp_size(header + bytes(200_000))
    bmp_size(made("BMP", (1000, 1000)))
    with pytest.raises(CorruptImage, match="run-length"):
        bmp_size(header + bytes(300_000))
