import struct
import zlib
from io import BytesIO
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from models.images.headers import bare_jpeg, check_bmp, exif_orientation, gif_size, image_type, still_png, webp_size

SIGNATURE = b"\x89PNG\r\n\x1a\n"


def encode(file_format: str, size: tuple[int, int] = (13, 29), mode: str = "L", **options: object) -> bytes:
    stream = BytesIO()
    Image.new(mode, size, 100).save(stream, file_format, **options)
    return stream.getvalue()


def chunk(kind: bytes, data: bytes = b"") -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


@pytest.mark.parametrize("file_format", ["PNG", "JPEG", "WEBP", "BMP", "GIF"])
def test_pillows_files_are_known_by_their_magic(file_format: str):
    assert image_type(encode(file_format)) == file_format.lower()


@pytest.mark.parametrize("file_format", ["TIFF", "ICO", "PPM", "TGA", "PCX", "JPEG2000"])
def test_other_files_are_not_known(file_format: str):
    assert image_type(encode(file_format, (16, 16))) is None


def chunks_of(png: bytes) -> list[bytes]:
    kinds, position = [], len(SIGNATURE)
    while position < len(png):
        (length,) = struct.unpack_from(">I", png, position)
        kinds.append(png[position + 4 : position + 8])
        position += 12 + length
    return kinds


def test_a_png_keeps_its_picture_alone():
    frames = [Image.new("L", (13, 29), 50)]
    data = encode(
        "PNG", save_all=True, append_images=frames, icc_profile=b"profile", dpi=(72, 72), exif=b"Exif\0\0II*\0"
    )
    data += b"PK\3\4 a zip behind the picture"
    kinds = chunks_of(still_png(data))
    assert set(kinds) == {b"IHDR", b"eXIf", b"IDAT", b"IEND"}
    assert kinds[-1] == b"IEND"
    assert Image.open(BytesIO(still_png(data))).tobytes() == bytes([100]) * 13 * 29


def test_a_plain_png_stays_as_it_is():
    data = encode("PNG")
    assert still_png(data) == data


def test_a_png_of_too_many_chunks_is_refused():
    data = encode("PNG")
    padded = data[:33] + chunk(b"IDAT") * 20_000 + data[33:]
    with pytest.raises(ValueError, match="more than 16384 chunks"):
        still_png(padded)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"mode": "RGB", "progressive": True, "icc_profile": bytes(500_000), "exif": b"Exif\0\0" + bytes(60_000)},
    ],
    ids=["plain", "a camera's"],
)
def test_a_jpeg_within_the_limits_keeps_its_picture(options: dict[str, Any]):
    data = encode("JPEG", **options)
    bare, _ = bare_jpeg(data)
    assert Image.open(BytesIO(bare)).tobytes() == Image.open(BytesIO(data)).tobytes()


@pytest.mark.parametrize(
    "segment", [b"\xff\xfe\0\2", b"\xff", b"\xff\xd0", b"\xff\x01"], ids=["comment", "fill", "restart", "tem"]
)
def test_a_jpeg_of_too_many_segments_is_refused(segment: bytes):
    data = encode("JPEG")
    with pytest.raises(ValueError, match="more than 4096 segments"):
        bare_jpeg(data[:2] + segment * 10_000 + data[2:])


def test_a_jpeg_keeps_its_picture_and_gives_its_exif():
    exif = Image.Exif()
    exif[0x0112] = 6
    whole = encode("JPEG", mode="CMYK", icc_profile=bytes(100_000), exif=exif, comment=b"made by hand")
    bare, found = bare_jpeg(whole)
    assert len(bare) < len(whole) - 100_000
    assert Image.open(BytesIO(bare)).tobytes() == Image.open(BytesIO(whole)).tobytes()
    assert found == Image.open(BytesIO(whole)).info["exif"]
    assert bare_jpeg(bare) == (bare, b"")


def scan_of(jpeg: bytes) -> bytes:
    return jpeg[jpeg.rindex(b"\xff\xda") : -2]


def test_a_progressive_jpeg_of_too_many_scans_is_refused():
    data = encode("JPEG", mode="RGB", progressive=True)
    with pytest.raises(ValueError, match="more than 100 scans"):
        bare_jpeg(data[:-2] + scan_of(data) * 200 + data[-2:])


def test_a_sequential_jpeg_of_too_many_scans_is_refused():
    data = bytearray(encode("JPEG", mode="RGB"))
    start = data.index(b"\xff\xda")
    data[start : start + 14] = b"\xff\xda\0\x08\x01\x01\0\0\x3f\0"  # the first of three components alone
    with pytest.raises(ValueError, match="more than 100 scans"):
        bare_jpeg(bytes(data[:-2]) + scan_of(bytes(data)) * 200 + b"\xff\xd9")


@pytest.mark.parametrize(
    "options", [{"mode": "RGB"}, {"lossless": True}, {"exif": b"Exif\0\0II*\0"}], ids=["VP8 ", "VP8L", "VP8X"]
)
@pytest.mark.parametrize("size", [(1, 1), (13, 29), (300, 2)])
def test_a_webps_size_is_pillows(size: tuple[int, int], options: dict[str, Any]):
    assert webp_size(encode("WEBP", size, **options)) == size


def test_a_webp_without_a_picture_is_refused():
    with pytest.raises(ValueError, match="no WebP bitstream"):
        webp_size(b"RIFF\x10\0\0\0WEBPALPH" + bytes(20))


def gif(screen: tuple[int, int], frame: tuple[int, int, int, int], extensions: bytes = b"") -> bytes:
    header = b"GIF89a" + struct.pack("<HHBBB", *screen, 0x80, 0, 0) + bytes(6)
    return header + extensions + b"," + struct.pack("<HHHHB", *frame, 0) + b"\x02\x02\x4c\x01\0;"


@pytest.mark.parametrize("frame", [(0, 0, 13, 29), (3, 4, 5, 6), (10, 0, 13, 5), (0, 20, 5, 29)])
def test_a_gifs_size_is_pillows(frame: tuple[int, int, int, int]):
    data = gif((13, 29), frame, b"!\xf9\x04\0\0\0\0\0" + b"!\xfe\x03abc\x02de\0")
    assert gif_size(data) == Image.open(BytesIO(data)).size


@pytest.mark.parametrize(
    "between", [b"", b"\0", b";", b"!\xfe" + b"\x01a" * 200_000 + b"\0"], ids=["end", "junk", "trailer", "long"]
)
def test_a_gif_without_a_frame_soon_is_refused(between: bytes):
    data = gif((13, 29), (0, 0, 13, 29), between)
    if not between:
        data = data[:19]
    with pytest.raises(ValueError, match="no frame"):
        gif_size(data)


def test_only_a_small_bmp_may_be_run_length_encoded():
    header = b"BM" + struct.pack("<IHHI", 0, 0, 0, 54) + struct.pack("<IiiHHIIiiII", 40, 9, 9, 1, 8, 1, 0, 0, 0, 0, 0)
    check_bmp(header + bytes(200_000))
    check_bmp(encode("BMP", (1000, 1000)))
    with pytest.raises(ValueError, match="run-length"):
        check_bmp(header + bytes(300_000))


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_pillows(orientation: int, order: str):
    exif = Image.Exif()
    exif.endian = order
    exif[0x010F] = "a maker's name in front"
    exif[0x0112] = orientation
    exif[0x0132] = "2026:01:02 03:04:05"
    assert exif_orientation(exif.tobytes()) == orientation


@pytest.mark.parametrize("value", [0, 9, 65_535])
def test_no_such_orientation_is_upright(value: int):
    exif = Image.Exif()
    exif[0x0112] = value
    assert exif_orientation(exif.tobytes()) == 1


@given(st.sampled_from([b"", b"Exif\0\0II*\0", b"Exif\0\0MM\0*", b"Exif\0\0II*\0\x08\0\0\0"]), st.binary())
def test_damaged_exif_is_upright_or_an_orientation(head: bytes, data: bytes):
    assert 1 <= exif_orientation(head + data) <= 8
