import struct

import pytest
from PIL import Image

from models.images.av1 import avif_size, largest_frame
from models.images.base_media import items
from models.images.errors import CorruptImage
from tests.models.images.pictures import encode


def unit(kind: int, content: bytes) -> bytes:
    return bytes([kind << 3 | 2, len(content)]) + content


def bits(*fields: tuple[int, int]) -> bytes:
    """Numbers, each with its count of bits."""
    text = "".join(f"{number:0{count}b}" if count else "" for number, count in fields)
    return int(text.ljust(-(-len(text) // 8) * 8, "0"), 2).to_bytes(-(-len(text) // 8))


SIZE = (11, 4), (11, 4), (3999, 12), (2999, 12)


@pytest.mark.parametrize("size", [(64, 48), (1, 1), (333, 1000)])
@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
def test_the_size_is_that_which_libavif_coded(size: tuple[int, int], mode: str):
    found = [largest_frame(item) for item in items(encode(Image.new(mode, size), "AVIF", speed=10))]
    assert found == [size] * (1 + (mode == "RGBA"))


PROFILE, FILM, NO_TIMING = (0, 3), (0, 1), (0, 1)
DELAYS = (1, 1), (1, 5), (0, 12), (9, 5), (1, 1), (1, 1), (7, 4), (0, 12), (4, 5), (0, 1)
TIMING = (1, 1), (1, 32), (1, 32), (1, 1), (5, 5)
MODEL = (1, 1), (9, 5), (1, 32), (3, 5), (3, 5), (0, 1), (0, 5), (0, 12), (4, 5), (1, 1), (0, 21)


@pytest.mark.parametrize(
    "head",
    [
        (PROFILE, (1, 1), (1, 1), (9, 5)),
        (PROFILE, (0, 1), FILM, NO_TIMING, (0, 1), (0, 5), (0, 12), (4, 5)),
        (PROFILE, (0, 1), FILM, NO_TIMING, *DELAYS),
        (PROFILE, (0, 1), FILM, *TIMING, *MODEL),
    ],
    ids=["short", "one point", "delays", "timing and decoder model"],
)
def test_each_form_of_the_header_tells_its_size(head: tuple[tuple[int, int], ...]):
    assert largest_frame(unit(2, b"") + unit(1, bits(*head, *SIZE)) + unit(6, b"frame")) == (4000, 3000)


def test_the_largest_of_several_headers_counts():
    small = bits((0, 3), (1, 1), (1, 1), (9, 5), (3, 4), (3, 4), (9, 4), (9, 4))
    large = bits((0, 3), (1, 1), (1, 1), (9, 5), *SIZE)
    assert largest_frame(unit(1, small) + unit(6, bytes(50)) + unit(1, large)) == (4000, 3000)
    assert largest_frame(unit(1, small) + b"\x08" + large) == (4000, 3000)  # the last may leave its length out


def test_of_an_avif_the_largest_counts_that_is_described_or_held():
    data = bytearray(encode(Image.new("RGB", (64, 48)), "AVIF", speed=10))
    place = data.index(b"ispe") + 8
    for described, largest in (((32, 32), (64, 48)), ((640, 480), (640, 480))):
        data[place : place + 8] = struct.pack(">II", *described)
        assert avif_size(bytes(data)) == largest


def test_what_is_no_stream_has_no_frame():
    assert largest_frame(b"") == (0, 0)
    assert largest_frame(b"Exif\0\0II*\0") == (0, 0)


def test_a_stream_of_too_many_units_is_refused():
    with pytest.raises(CorruptImage, match="more than 1024 parts"):
        largest_frame(unit(15, b"") * 2000)
