import struct

import pytest
from PIL import Image

from models.images.base_media import largest_picture
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
