import struct
from io import BytesIO

import pytest
from PIL import Image

from models.images.errors import CorruptImage
from models.images.tiff import first_page
from tests.models.images.pictures import encode, noise


def by_hand(*entries: tuple[int, int, int, int], big: bool = False, order: str = "<") -> bytes:
    """A TIFF of one directory: tag, type, number of values and value."""
    mark = b"II" if order == "<" else b"MM"
    if big:
        head = mark + struct.pack(order + "HHHQ", 43, 8, 0, 16)
        body = struct.pack(order + "Q", len(entries)) + b"".join(struct.pack(order + "HHQQ", *one) for one in entries)
    else:
        head = mark + struct.pack(order + "HI", 42, 8)
        body = struct.pack(order + "H", len(entries)) + b"".join(struct.pack(order + "HHII", *one) for one in entries)
    return head + body + bytes(8)


WIDTH, HEIGHT, STRIP, UPSIDE_DOWN = (0x100, 4, 1, 13), (0x101, 4, 1, 29), (0x111, 4, 1, 8), (0x112, 4, 1, 3)
TILE_WIDTH, TILES = (0x142, 4, 1, 16), (0x144, 4, 1, 8)


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("big", [False, True])
def test_size_and_orientation_are_those_of_pillow(order: str, big: bool):
    kind = 16 if big else 4
    data = by_hand(
        (0x100, kind, 1, 13), (0x101, kind, 1, 29), (0x111, kind, 1, 8), (0x112, kind, 1, 6), big=big, order=order
    )
    page = first_page(data)
    assert (page.size, page.tile, page.orientation) == ((13, 29), (13, 29), 6)
    assert first_page(encode(noise("RGB", 13, 29), "TIFF", big_tiff=big)).size == (13, 29)


def test_the_page_is_said_to_be_upright():
    exif = Image.Exif()
    exif[0x0112] = 8
    page = first_page(encode(noise("RGB", 13, 29), "TIFF", exif=exif))
    assert page.orientation == 8
    assert Image.open(BytesIO(page.data)).tag_v2[0x0112] == 1  # type: ignore[attr-defined]
    assert first_page(page.data).orientation == 1


@pytest.mark.parametrize("value", [0, 9, 65_535])
def test_no_such_orientation_is_upright(value: int):
    assert first_page(by_hand(WIDTH, HEIGHT, STRIP, (0x112, 3, 1, value))).orientation == 1


@pytest.mark.parametrize(
    ("data", "complaint"),
    [
        (b"II*\0", "ends before its picture"),
        (b"II*\0\xff\xff\xff\xff", "ends before its picture"),
        (b"MM\0+\0\x08\0\0" + b"\xff" * 8, "ends before its picture"),
        (by_hand(WIDTH, STRIP), "ends before its picture"),
        (by_hand(WIDTH, HEIGHT, STRIP)[:30], "ends before its picture"),
        (by_hand(*[(tag, 4, 1, 1) for tag in range(600)]), "more than 512 entries"),
        (by_hand(WIDTH, HEIGHT, STRIP, (0x8773, 7, 1 << 31, 8)), "points to more than there is"),
        (by_hand(WIDTH, HEIGHT, STRIP, (0x8773, 7, 9, 1000)), "points to more than there is"),
        (
            by_hand(WIDTH, (0x101, 4, 1, 20_000), (0x111, 4, 20_000, 8), (0x116, 4, 1, 1)) + bytes(80_000),
            "more than 16384 strips",
        ),
        (by_hand(WIDTH, HEIGHT, STRIP, (0x144, 4, 20_000, 8)) + bytes(80_000), "more than 16384 strips or tiles"),
        # A reader that takes what each entry points to would take it ten times.
        (
            by_hand(WIDTH, HEIGHT, STRIP, *[(0x8773 + i, 7, 9_000, 8) for i in range(10)]) + bytes(9_000),
            "more than there",
        ),
        (by_hand(WIDTH, HEIGHT, STRIP, (0x116, 4, 1, 10)), "its 1 strips or tiles leave out a part"),
        # What Pillow and libtiff would read another size from than was looked at.
        (by_hand(WIDTH, (0x100, 4, 1, 9_000), HEIGHT, STRIP), "tells the picture's shape twice"),
        (by_hand(WIDTH, HEIGHT, TILE_WIDTH, (0x143, 9, 1, 9_000), TILES), "tells the size of its tiles in a way"),
        (by_hand(WIDTH, HEIGHT, TILE_WIDTH, (0x143, 3, 2, 9_000 << 16 | 16), TILES), "tells the size of its tiles"),
        (by_hand(WIDTH, HEIGHT), "its 0 strips or tiles leave out a part"),
    ],
)
def test_what_must_not_reach_the_decoder_is_refused(data: bytes, complaint: str):
    with pytest.raises(CorruptImage, match=complaint):
        first_page(data)
