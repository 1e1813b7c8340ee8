import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from models.images.orientation import orientation

PREFIX = b"Exif\0\0"


def tiff(kind: int, value: bytes, order: str = "<", tag: int = 0x0112, count: int = 1) -> bytes:
    """A block with one entry, whose value has four bytes."""
    return (
        (b"II*\0" if order == "<" else b"MM\0*")
        + struct.pack(order + "IHHHI", 8, 1, tag, kind, count)
        + value
        + bytes(4)
    )


def short(value: int, tag: int = 0x0112) -> bytes:
    return PREFIX + tiff(3, struct.pack("<Hxx", value), tag=tag)


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("value", range(1, 9))
def test_exif_is_read_as_pillow_writes_it(value: int, order: str):
    exif = Image.Exif()
    exif.endian = order
    exif[0x010F] = "a maker's name in front"
    exif[0x0112] = value
    exif[0x0132] = "2026:01:02 03:04:05"
    assert orientation([exif.tobytes()]) == value


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize(("kind", "layout"), [(3, "Hxx"), (4, "I"), (8, "hxx"), (9, "i")])
def test_any_integer_is_read_as_pillow_does(kind: int, layout: str, order: str):
    block = tiff(kind, struct.pack(order + layout, 6), order)
    exif = Image.Exif()
    exif.load(block)
    assert exif[0x0112] == orientation([block]) == orientation([PREFIX + block]) == 6


@pytest.mark.parametrize(
    "block", [short(0), short(9), short(65_535), PREFIX + tiff(3, struct.pack("<HH", 6, 6), count=2)]
)
def test_no_such_orientation_is_upright(block: bytes):
    assert orientation([block]) == 1


def test_the_first_block_that_tells_it_counts():
    assert orientation([short(6), short(3)]) == 6
    assert orientation([short(6), short(1, tag=0x010F)]) == 6
    assert orientation([short(1, tag=0x010F), short(6)]) == 6
    assert orientation([b"Exif\0\0nonsense", short(6)]) == 6


def test_one_block_cut_into_several_is_read_whole():
    block = (
        PREFIX + b"II*\0" + struct.pack("<I", 80_000) + bytes(79_992) + struct.pack("<HHHIHxxI", 1, 0x0112, 3, 1, 6, 0)
    )
    assert orientation([block[:60_000], PREFIX + block[60_000:]]) == 6


@pytest.mark.parametrize("xmp", [b'<x tiff:Orientation="6"/>', b"<x><tiff:Orientation>6</tiff:Orientation></x>"])
def test_xmp_counts_where_exif_tells_nothing(xmp: bytes):
    assert orientation([], xmp) == 6
    assert orientation([short(1, tag=0x010F)], xmp) == 6
    assert orientation([short(3)], xmp) == 3
    assert orientation([short(0)], xmp) == 1


@given(st.sampled_from([b"", b"Exif\0\0II*\0", b"Exif\0\0MM\0*", b"Exif\0\0II*\0\x08\0\0\0"]), st.binary(), st.binary())
def test_damaged_metadata_are_upright_or_an_orientation(head: bytes, data: bytes, xmp: bytes):
    assert 1 <= orientation([head + data, data], xmp) <= 8
