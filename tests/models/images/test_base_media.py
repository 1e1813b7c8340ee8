import struct

import pytest
from PIL import Image

from models.images.base_media import items, largest_picture
from models.images.errors import CorruptImage
from tests.models.images.pictures import encode, noise


def box(kind: bytes, *content: bytes) -> bytes:
    body = b"".join(content)
    return struct.pack(">I", len(body) + 8) + kind + body


def described(*sizes: tuple[int, int]) -> bytes:
    extents = [box(b"ispe", bytes(4), struct.pack(">II", *size)) for size in sizes]
    return box(b"ftyp", b"avif") + box(b"meta", bytes(4), box(b"hdlr"), box(b"iprp", box(b"ipco", *extents)))


@pytest.mark.parametrize("frames", [0, 1])
def test_the_size_is_pillows(frames: int):
    image = noise("RGB", 70, 50)
    assert largest_picture(
        encode(image, "AVIF", save_all=bool(frames), append_images=[Image.new("RGB", (70, 50))] * frames)
    ) == (70, 50)


def test_the_largest_of_several_counts():
    assert largest_picture(described((512, 512), (4032, 3024), (320, 240))) == (4032, 3024)
    wide = described((5, 7))
    meta = wide.index(b"meta") - 4
    assert largest_picture(wide[:meta] + struct.pack(">I4sQ", 1, b"meta", len(wide) - meta + 8) + wide[meta + 8 :]) == (
        5,
        7,
    )


@pytest.mark.parametrize(
    "data", [b"", box(b"ftyp", b"avif"), described(), described((5, 7))[:-20], box(b"ftyp") + b"\0\0\0\3meta"]
)
def test_a_file_without_a_described_picture_is_refused(data: bytes):
    with pytest.raises(CorruptImage, match="ends before its picture"):
        largest_picture(data)


def test_a_file_of_too_many_boxes_is_refused():
    with pytest.raises(CorruptImage, match="more than 4096 boxes"):
        largest_picture(box(b"free") * 5000 + described((5, 7)))


def located(*extents: tuple[int, int], items_count: int = 1, widths: int = 0x44) -> bytes:
    """A file whose items have these extents, in the first version of the box."""
    entry = struct.pack(">HHH", 1, 0, len(extents)) + b"".join(struct.pack(">II", *one) for one in extents if widths)
    iloc = box(b"iloc", bytes(4), bytes([widths, 0]), struct.pack(">H", items_count), entry * items_count)
    return box(b"ftyp", b"avif") + box(b"meta", bytes(4), iloc)


def test_items_are_put_together_from_their_extents():
    data = located((0, 4), (8, 4))
    assert list(items(data)) == [data[:4] + data[8:12]]
    assert list(items(located((4, 0)))) == [located((4, 0))[4:]]  # up to the end


@pytest.mark.parametrize(
    "data", [located((0, 0), items_count=2000) + bytes(1 << 20), located(*[(0, 0)] * 4000, items_count=100, widths=0)]
)
def test_items_that_are_more_than_the_file_are_refused(data: bytes):
    with pytest.raises(CorruptImage, match="point to more than there is"):
        list(items(data))
