from io import BytesIO
from typing import Any

import pytest
from PIL import Image

from models.images.errors import CorruptImage
from models.images.jpeg import bare_jpeg, jpeg_frame
from tests.models.images.pictures import encode, noise


def made(mode: str = "L", **options: object) -> bytes:
    return encode(Image.new(mode, (13, 29), 100), "JPEG", **options)


def pixels(data: bytes) -> bytes:
    return Image.open(BytesIO(data)).tobytes()


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"mode": "RGB", "progressive": True, "icc_profile": bytes(500_000), "exif": b"Exif\0\0" + bytes(60_000)},
    ],
    ids=["plain", "a camera's"],
)
def test_a_jpeg_within_the_limits_keeps_its_picture(options: dict[str, Any]):
    data = made(**options)
    assert pixels(bare_jpeg(data).data) == pixels(data)


@pytest.mark.parametrize(
    "segment",
    [b"\xff\xfe\0\2", b"\xff", b"\xff\xd0", b"\xff\x01", b"\0\xff\x01"],
    ids=["comment", "fill", "restart", "tem", "junk"],
)
def test_a_jpeg_of_too_many_segments_is_refused(segment: bytes):
    data = made()
    with pytest.raises(CorruptImage, match="more than 4096 segments"):
        bare_jpeg(data[:2] + segment * 10_000 + data[2:])


def test_a_jpeg_keeps_its_picture_and_gives_what_tells_its_orientation():
    exif = Image.Exif()
    exif[0x0112] = 6
    whole = made("CMYK", icc_profile=bytes(100_000), exif=exif, comment=b"made by hand", xmp=b"<xmp/>")
    bare = bare_jpeg(whole)
    assert len(bare.data) < len(whole) - 100_000
    assert pixels(bare.data) == pixels(whole)
    assert bare.exif == [Image.open(BytesIO(whole)).info["exif"]]
    assert bare.xmp.endswith(b"<xmp/>")
    assert bare_jpeg(bare.data) == bare._replace(exif=[], xmp=b"")


@pytest.mark.parametrize("progressive", [False, True])
def test_what_stands_behind_the_end_is_not_looked_at(progressive: bool):
    data = made("RGB", progressive=progressive)
    assert bare_jpeg(data + b"\xff\xda" * 1000) == bare_jpeg(data)
    assert bare_jpeg(data).ended
    assert bare_jpeg(data + data, alone=True) == bare_jpeg(data)
    assert (bare_jpeg(data + data).data == bare_jpeg(data).data) == progressive  # a search costs a look at every byte


def test_a_table_between_passes_may_hold_the_bytes_of_an_end():
    data = encode(noise("RGB"), "JPEG", progressive=True)
    comment = b"\xff\xfe\0\x06\xff\xd9\xff\xda"
    scan = data.rindex(b"\xff\xda")
    assert pixels(bare_jpeg(data[:scan] + comment + data[scan:]).data) == pixels(data)


def test_a_progressive_jpeg_without_its_end_needs_its_last_pass():
    data = encode(noise("RGB", 64, 64), "JPEG", progressive=True)
    assert not bare_jpeg(data[:-2]).ended
    assert bare_jpeg(data[:-2]).data == bare_jpeg(data).data
    with pytest.raises(CorruptImage, match="whole passes over the picture are missing"):
        bare_jpeg(data[: data.rindex(b"\xff\xda")])


def scan_of(jpeg: bytes) -> bytes:
    return jpeg[jpeg.rindex(b"\xff\xda") : -2]


def test_a_progressive_jpeg_of_too_many_scans_is_refused():
    data = made("RGB", progressive=True)
    with pytest.raises(CorruptImage, match="more than 100 scans"):
        bare_jpeg(data[:-2] + scan_of(data) * 200 + data[-2:])


def test_a_sequential_jpeg_of_too_many_scans_is_refused():
    data = bytearray(made("RGB"))
    start = data.index(b"\xff\xda")
    data[start : start + 14] = b"\xff\xda\0\x08\x01\x01\0\0\x3f\0"  # the first of three components alone
    with pytest.raises(CorruptImage, match="more than 100 scans"):
        bare_jpeg(bytes(data[:-2]) + scan_of(bytes(data)) * 200 + b"\xff\xd9")


@pytest.mark.parametrize("progressive", [False, True])
def test_a_jpeg_tells_its_frame_behind_other_segments(progressive: bool):
    image = Image.new("RGB", (70, 50))
    data = encode(image, "JPEG", progressive=progressive, exif=Image.Exif().tobytes(), comment=b"x" * 500)
    assert jpeg_frame(data) == (70, 50, 3, progressive)


@pytest.mark.parametrize("data", [b"\xff\xd8\xff", made()[:100], made()[:2] + b"\xff\xd9"])
def test_a_jpeg_that_ends_before_its_picture_is_refused(data: bytes):
    with pytest.raises(CorruptImage, match="ends before its picture"):
        bare_jpeg(data)


@pytest.mark.parametrize(
    ("place", "value", "complaint"),
    [(1, 0xC3, "lossless"), (4, 12, "12 bits a sample"), (6, 0, "no size")],
    ids=["lossless", "12 bits", "height behind the scan"],
)
def test_kinds_that_no_decoder_reads_are_named(place: int, value: int, complaint: str):
    data = bytearray(made("RGB"))
    data[data.index(b"\xff\xc0") + place] = value
    with pytest.raises(CorruptImage, match=complaint):
        bare_jpeg(bytes(data))
