import struct
import tracemalloc
import zlib
from io import BytesIO

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from models.images.errors import CorruptImage
from models.images.png import png_header, still_png
from tests.models.images.pictures import chunk, encode, hand_made_png, noise

EXIF = b"Exif\0\0II*\0\x08\0\0\0\0\0"


def chunks_of(png: bytes) -> list[bytes]:
    kinds, position = [], 8
    while position < len(png):
        (length,) = struct.unpack_from(">I", png, position)
        kinds.append(png[position + 4 : position + 8])
        position += 12 + length
    return kinds


def test_a_png_keeps_its_picture_alone():
    image, frames = Image.new("L", (13, 29), 100), [Image.new("L", (13, 29), 50)]
    data = encode(image, save_all=True, append_images=frames, icc_profile=b"profile", dpi=(72, 72), exif=EXIF)
    found = still_png(data + b"PK\3\4 a zip behind the picture")
    assert chunks_of(found.data) == [b"IHDR", b"IDAT", b"IEND"]
    assert found.ended
    assert found.exif == [EXIF.removeprefix(b"Exif\0\0")]
    assert Image.open(BytesIO(found.data)).tobytes() == image.tobytes()


def test_a_plain_png_stays_as_it_is():
    data = encode(Image.new("L", (13, 29)))
    assert still_png(data).data == data


def test_the_header_is_what_pillow_wrote():
    assert png_header(encode(Image.new("RGBA", (13, 29)))) == (13, 29, 8, 6, 0)
    assert png_header(encode(Image.new("1", (13, 29)))) == (13, 29, 1, 0, 0)


@pytest.mark.parametrize("length", [8, 20, 28, 33, 40])
def test_a_png_that_ends_before_its_picture_is_refused(length: int):
    with pytest.raises(CorruptImage, match="ends before its picture"):
        still_png(encode(Image.new("L", (13, 29)))[:length])


def test_a_png_of_an_apps_package_is_named():
    data = encode(noise("RGB"))
    with pytest.raises(CorruptImage, match="CgBI"):
        still_png(data[:8] + chunk(b"CgBI", b"P\0 \6") + data[8:])


def test_a_png_of_two_headers_is_refused():
    """The limit of pixels is held against the first; Pillow takes the last."""
    data, other = encode(noise("RGB")), encode(noise("RGB", 48, 48))
    with pytest.raises(CorruptImage, match="two headers"):
        still_png(data[:33] + other[8:])


def test_a_png_of_too_many_chunks_is_refused():
    data = encode(Image.new("L", (13, 29)))
    with pytest.raises(CorruptImage, match="more than 16384 chunks"):
        still_png(data[:33] + chunk(b"IDAT") * 20_000 + data[33:])


@pytest.mark.parametrize("compressed", [False, True])
def test_texts_that_tell_the_orientation_are_found(compressed: bool):
    texts = PngImagePlugin.PngInfo()
    texts.add_text("Comment", "none of our business", zip=compressed)
    texts.add_text("Raw profile type exif", f"\nexif\n{len(EXIF):8}\n{EXIF.hex()}\n", zip=compressed)
    texts.add_itxt("XML:com.adobe.xmp", '<x tiff:Orientation="6"/>', zip=compressed)
    found = still_png(encode(Image.new("L", (9, 9)), pnginfo=texts))
    assert (found.exif, found.xmp) == ([EXIF], b'<x tiff:Orientation="6"/>')


@pytest.mark.parametrize(
    "text",
    [
        chunk(b"zTXt", b"XML:com.adobe.xmp\0\0" + zlib.compress(bytes(2 << 20))),
        chunk(b"zTXt", b"XML:com.adobe.xmp\0\0damaged"),
        chunk(b"iTXt", b"XML:com.adobe.xmp\0\1\0\0"),
        chunk(b"tEXt", b"Raw profile type exif\0\nexif\n1\nzz\n"),
    ],
    ids=["huge", "damaged", "short", "no hexadecimal"],
)
def test_texts_that_cannot_be_read_tell_nothing(text: bytes):
    data = encode(Image.new("L", (9, 9)))
    found = still_png(data[:33] + text + data[33:])
    assert b"".join([*found.exif, found.xmp]) == b""


@pytest.mark.parametrize(("depth", "colour"), [(1, 0), (2, 3), (4, 0), (8, 2), (8, 4), (16, 6)])
def test_rows_are_counted_in_the_data(depth: int, colour: int):
    """Of rows of zeros, all but the first as their neighbour says: what is read of them is what was written."""
    row = bytes(1 + -(-37 * depth * {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}[colour] // 8))
    for rows in (0, 1, 17, 29):
        data = hand_made_png(37, 29, depth, colour, row * rows + row[: len(row) // 2 * (rows < 29)])
        assert still_png(data).rows() == rows


@pytest.mark.parametrize("size", [(8, 8), (1, 1), (3, 9), (13, 29), (2, 1)])
def test_an_interlaced_row_is_there_when_all_its_pixels_are(size: tuple[int, int]):
    """Against a walk over the pixels in the order of Adam7, as the specification draws it."""
    width, height = size
    pattern = ["16462646", "77777777", "56565656", "77777777", "36463646", "77777777", "56565656", "77777777"]
    order = np.array([[int(pattern[y % 8][x % 8]) for x in range(width)] for y in range(height)])
    lines = [(number, y) for number in range(1, 8) for y in range(height) if (order[y] == number).any()]
    data = b"".join(bytes(1 + int((order[y] == number).sum())) for number, y in lines)
    for count in range(len(lines) + 1):
        held = sum(1 + int((order[y] == number).sum()) for number, y in lines[:count])
        missing = [y for number, y in lines[count:]]
        assert still_png(hand_made_png(*size, 8, 0, data[:held], interlaced=True)).rows() == min(
            missing, default=height
        )


@pytest.mark.parametrize("size", [(3000, 2000), (1, 70_000), (65_535, 1), (65_536, 3)])
def test_rows_that_inflate_from_next_to_nothing_are_counted(size: tuple[int, int]):
    data = encode(Image.new("L", size))
    assert still_png(data).rows() == size[1]


def test_no_more_is_inflated_than_the_picture_has():
    """A gigabyte would take seconds."""
    bomb = zlib.compressobj()
    coded = b"".join(bomb.compress(bytes(1 << 20)) for _ in range(64)) + bomb.flush()
    data = hand_made_png(8, 8, 8, 0, b"")
    start = data.index(b"IDAT") - 4
    picture = still_png(data[:start] + chunk(b"IDAT", coded) + chunk(b"IEND"))
    tracemalloc.start()
    assert picture.rows() == 8
    assert tracemalloc.get_traced_memory()[1] < 1 << 20
    tracemalloc.stop()


def test_damaged_data_have_no_rows():
    data = bytearray(encode(Image.effect_noise((40, 40), 50)))
    data[60] ^= 0xFF
    with pytest.raises(CorruptImage, match="damaged"):
        still_png(bytes(data)).rows()
