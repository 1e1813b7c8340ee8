import struct
from io import BytesIO
from typing import Any

import pytest
from PIL import Image
from PIL.BmpImagePlugin import BmpImageFile

from models.images.errors import CorruptImage
from models.images.headers import bare_gif, bmp_size, gif_size, webp_size, webp_with_alpha
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


@pytest.mark.parametrize("between", [b"", b";", b"!\xfe" + b"\x01a" * 200_000 + b"\0"], ids=["end", "trailer", "long"])
def test_a_gif_without_a_frame_soon_is_refused(between: bytes):
    data = gif((13, 29), (0, 0, 13, 29), between)
    if not between:
        data = data[:19]
    with pytest.raises(CorruptImage, match="ends before its picture"):
        gif_size(data)


@pytest.mark.parametrize("between", [b"\0\0", b"!\xfe\0", b"!\xf9\4\1\0\0\1\0"], ids=["junk", "empty", "control"])
def test_what_stands_before_a_gifs_frame_does_not_move_it(between: bytes):
    data = gif((13, 29), (3, 4, 5, 6), between)
    found, bare = (Image.open(BytesIO(one)) for one in (data, bare_gif(data)))
    assert gif_size(data) == (found.size, (3, 4, 8, 10))
    assert (bare.size, bare.info.get("transparency")) == (found.size, found.info.get("transparency"))


@pytest.mark.parametrize("extension", [b"!\xf1\0", b"!\xff\x0bNETSCAPE2.0\0"], ids=["empty", "loop"])
def test_pillow_sees_no_other_frame_of_a_gif(extension: bytes):
    """Pillow reads on behind the end of these, where the small frame is data and a huge one follows."""
    small = gif((4, 4), (0, 0, 4, 4))[19:-1]
    data = gif((4, 4), (0, 0, 9_000, 9_000), extension + small.ljust(45, b"\0") + b"\0")
    assert Image.open(BytesIO(data)).size == (9_000, 9_000)
    assert Image.open(BytesIO(bare_gif(data))).size == gif_size(data)[0] == (4, 4)


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
