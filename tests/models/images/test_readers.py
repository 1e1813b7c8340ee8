"""Every kind of file against Pillow's own reading of it; where that is not what is meant, against the standard."""

import dataclasses
import struct
from io import BytesIO

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageOps

from models.images.errors import CorruptImage, ImageTooLarge
from models.images.preprocessing import Preprocessing
from tests.models.images import corpus
from tests.models.images.pictures import COLOUR, GREY, encode, noise, pixels_of, run, smooth

BACKGROUND = (200, 30, 90)
SPECS = [dataclasses.replace(spec, background=BACKGROUND) for spec in (GREY, COLOUR)]
BOTH = pytest.mark.parametrize("spec", SPECS, ids=["grey", "colour"])


def each_of(*files: tuple[str, bytes]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("data", [pytest.param(data, id=name) for name, data in files])


def opened(data: bytes) -> Image.Image:
    image = Image.open(BytesIO(data))
    image.load()
    return image


def shown(image: Image.Image, spec: Preprocessing) -> NDArray[np.uint8]:
    """A picture in Pillow's words: over the background, in the network's mode, and of it the centre."""
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, (*spec.background, 255)), image).convert("RGB")
    left, top = (image.width - 24) // 2, (image.height - 24) // 2
    return pixels_of(image.convert(spec.mode).crop((left, top, left + 24, top + 24)))


def as_pillow(data: bytes, spec: Preprocessing) -> NDArray[np.uint8]:
    return shown(ImageOps.exif_transpose(opened(data)), spec)


@BOTH
@pytest.mark.parametrize("kind", corpus.PNG_KINDS, ids=str)
def test_every_kind_of_png_is_shown_as_pillow_and_the_specification_have_it(kind: corpus.PngKind, spec: Preprocessing):
    data, book = corpus.png(kind), Image.fromarray(corpus.png_by_the_book(kind))
    pixels = run(data, spec)
    scaled = kind.transparent and kind.colour in (0, 2) and kind.depth in (2, 4, 16)
    if not scaled and not (kind.depth == 16 and kind.colour == 0):  # there Pillow is wrong, or clips at 255
        np.testing.assert_array_equal(pixels, as_pillow(data, spec))
    if kind.colour in (0, 4) and spec.mode == "L":  # grey that was never colour: luma may round
        assert np.abs(pixels.astype(int) - shown(book, spec)).max() <= 1
    else:
        np.testing.assert_array_equal(pixels, shown(book, spec))


@BOTH
@each_of(*corpus.jpegs(), *corpus.others())
def test_every_kind_of_file_is_shown_as_pillow_has_it(data: bytes, spec: Preprocessing):
    np.testing.assert_array_equal(run(data, spec), as_pillow(data, spec))


@pytest.mark.parametrize("value", range(1, 9))
def test_every_way_to_tell_an_orientation_turns_as_pillow_does(value: int):
    for name, data in corpus.turned(value):
        np.testing.assert_array_equal(run(data, SPECS[1]), as_pillow(data, SPECS[1]), err_msg=name)


@pytest.mark.parametrize("name", ["without", "with another", "with YCCK's"])
def test_four_inks_are_shown_as_browsers_show_them(name: str):
    """As inverted samples, with or without a marker: each of the first three times the fourth (Chromium, Firefox)."""
    data = dict(corpus.jpegs())[f"JPEG CMYK {name} Adobe marker"]
    inverted = 255 - np.asarray(opened(data)).astype(float)
    shown_by_browsers = (inverted[..., :3] * inverted[..., 3:] / 255)[6:30]
    assert np.abs(run(data, COLOUR) - shown_by_browsers).max() <= 1


def test_an_orientation_in_a_later_block_turns():
    """As in Chromium; Pillow reads the first block only."""
    jpeg = encode(smooth("RGB", *corpus.SIZE), "JPEG")
    blocks = [corpus.exif(6).replace(b"\x12\1", b"\x0f\1"), corpus.exif(6)]
    app1 = [b"\xff\xe1" + struct.pack(">H", len(block) + 2) + block for block in blocks]
    one, both = jpeg[:2] + app1[1] + jpeg[2:], jpeg[:2] + b"".join(app1) + jpeg[2:]
    np.testing.assert_array_equal(run(both, COLOUR), run(one, COLOUR))


WHOLE = dataclasses.replace(COLOUR, height=160, width=160, resize=160, background=BACKGROUND)


def pieces(data: bytes) -> list[int]:
    """Lengths at which to cut a file: near its end, and all over it."""
    return [len(data) - behind for behind in (1, 2, 3, 5, 12, 13, 20, 40)] + [
        len(data) * i // 40 for i in range(20, 40)
    ]


def rows_shown(data: bytes, complete: NDArray[np.uint8]) -> int | None:
    """How many rows of a cut file are as in the whole, above background alone; None if it is refused."""
    try:
        pixels = run(data, WHOLE)
    except CorruptImage:
        return None
    background = (pixels == BACKGROUND).all(axis=(1, 2))
    rows = 160 if not background.any() else int(background.argmax())
    assert background[rows:].all()
    # Where colour has half the rows, the last one above what is missing was made with its neighbour below; of a
    # picture in several passes some rows are less fine.
    assert (np.abs(pixels[: max(0, rows - 1)].astype(int) - complete[: max(0, rows - 1)]) <= 1).mean() > 0.98
    return rows


def check_cuts(data: bytes) -> list[int | None]:
    complete = run(data, WHOLE)
    found = [rows_shown(data[:length], complete) for length in sorted(pieces(data))]
    kept = [rows for rows in found if rows is not None]
    assert found == [None] * (len(found) - len(kept)) + kept == [None] * (len(found) - len(kept)) + sorted(kept)
    assert all(rows >= 140 for rows in kept)
    assert found[0] is None  # half of it
    assert rows_shown(data[:-2], complete) == 160
    return found


@pytest.mark.parametrize("kind", [kind for kind in corpus.PNG_KINDS if not kind.transparent], ids=str)
def test_a_png_without_its_end_shows_the_rows_that_are_there(kind: corpus.PngKind):
    kept = [rows for rows in check_cuts(corpus.png(kind, size=(160, 160))) if rows is not None]
    assert len(kept) > 5
    assert min(kept) < 160


@pytest.mark.parametrize("kind", [kind for kind in corpus.PNG_KINDS if kind.transparent], ids=str)
def test_a_transparent_png_without_its_end_shows_the_rows_that_are_there(kind: corpus.PngKind):
    data = corpus.png(kind, size=(160, 160))
    complete, cut = run(data, WHOLE), run(data[:-30], WHOLE)
    different = (cut != complete).any(axis=(1, 2))
    assert not different[:140].any()
    assert (cut[different] == BACKGROUND).all()


@each_of(*((name, data) for name, data in corpus.jpegs((160, 160)) if "tail" not in name))
def test_a_jpeg_without_its_end_shows_the_rows_that_are_there(data: bytes):
    assert len([rows for rows in check_cuts(data) if rows is not None]) >= 2


@pytest.mark.parametrize("rows", [0, 1, 100, 159])
@pytest.mark.parametrize("interlaced", [False, True])
def test_a_png_whose_data_end_properly_but_early_is_corrupt(rows: int, interlaced: bool):
    data = corpus.hand_made_png(160, 160, 8, 0, (b"\0" + bytes([200]) * 160) * rows, interlaced=interlaced)
    with pytest.raises(CorruptImage, match="its data end after"):
        run(data, WHOLE)


def test_a_small_png_of_the_networks_size_may_lack_no_row():
    """The way without Pillow's Python around the decoder."""
    rows = b"\0" + bytes([9]) * 24
    assert (run(corpus.hand_made_png(24, 24, 8, 0, rows * 24)) == 9).all()
    with pytest.raises(CorruptImage, match="its data end after 23 of 24 rows"):
        run(corpus.hand_made_png(24, 24, 8, 0, rows * 23))


@pytest.mark.parametrize(
    "image", [smooth("RGB", 160, 160), noise("L", 160, 160), Image.new("RGB", (160, 160), (128,) * 3)]
)
def test_a_jpeg_with_an_end_marker_behind_three_quarters_of_its_data_is_corrupt(image: Image.Image):
    data = encode(image, "JPEG", quality=95)
    run(data, WHOLE)
    with pytest.raises(CorruptImage, match="its data end after"):
        run(data[: len(data) * 3 // 4] + b"\xff\xd9", WHOLE)
    with pytest.raises(CorruptImage, match="its data end after"):  # also with a second picture behind it, as phones do
        run(data[: len(data) * 3 // 4] + b"\xff\xd9" + data, WHOLE)
    np.testing.assert_array_equal(run(data + data, WHOLE), run(data, WHOLE))


@BOTH
def test_a_jpeg_whose_middle_decodes_to_noise_is_shown_as_pillow_shows_it(spec: Preprocessing):
    sound = encode(smooth("RGB", 24, 24), "JPEG", quality=100)
    data, middle = bytearray(sound), (sound.rindex(b"\xff\xda") + len(sound)) // 2
    data[middle : middle + 8] = bytes(8)
    assert (as_pillow(bytes(data), spec) != as_pillow(sound, spec)).any()
    np.testing.assert_array_equal(run(bytes(data), spec), as_pillow(bytes(data), spec))


def test_what_no_frame_covers_is_background():
    frame = noise("L").crop((0, 0, 10, 8))
    gif = bytearray(encode(frame, "GIF"))
    gif[6:10] = struct.pack("<HH", 24, 24)
    place = gif.index(b",", 13 + (3 << (gif[10] & 7) + 1)) + 1
    gif[place : place + 4] = struct.pack("<HH", 5, 3)
    expected = Image.new("RGB", (24, 24), BACKGROUND)
    expected.paste(frame, (5, 3))
    np.testing.assert_array_equal(run(bytes(gif), SPECS[1]), pixels_of(expected))


@pytest.mark.parametrize("alpha_flag", [0, 0x10])
def test_what_no_frame_of_an_animated_webp_covers_is_background(alpha_flag: int):
    frame = noise("RGB").crop((0, 0, 10, 8))
    place = b"".join(number.to_bytes(3, "little") for number in (3, 2, 9, 7, 100)) + b"\0"  # in steps of two pixels
    bits = encode(frame, "WEBP", lossless=True)[12:]
    canvas = bytes([2 | alpha_flag, 0, 0, 0]) + b"\x17\0\0" * 2
    boxes = [(b"VP8X", canvas), (b"ANIM", bytes(6)), (b"ANMF", place + bits)]
    body = b"".join(
        kind + struct.pack("<I", len(content)) + content + bytes(len(content) & 1) for kind, content in boxes
    )
    data = b"RIFF" + struct.pack("<I", len(body) + 4) + b"WEBP" + body
    expected = Image.new("RGB", (24, 24), BACKGROUND)
    expected.paste(frame, (6, 4))
    np.testing.assert_array_equal(run(data, SPECS[1]), pixels_of(expected))


def declared(width: int, height: int) -> bytes:
    """A JPEG of a few bytes that declares another size."""
    data = bytearray(encode(Image.new("RGB", (16, 16)), "JPEG"))
    start = data.index(b"\xff\xc0") + 5
    data[start : start + 4] = struct.pack(">HH", height, width)
    return bytes(data)


def test_what_is_decoded_is_bounded_and_not_what_is_declared():
    drafted = dataclasses.replace(COLOUR, draft=True)
    data = encode(Image.new("RGB", (4000, 3000), (90, 120, 200)), "JPEG", quality=60)
    assert (
        np.ptp(run(data, drafted), axis=(0, 1)).max() == 0
    )  # 12 megapixels, at an eighth 187,500; MAX_PIXELS is 2 million
    with pytest.raises(ImageTooLarge, match="4000 x 3000 pixels, at most 2000000"):
        run(data, COLOUR)
    with pytest.raises(ImageTooLarge, match="12000 x 16000 pixels, decoded as 1500 x 2000, at most 2000000"):
        run(declared(12_000, 16_000), drafted)
    with pytest.raises(ImageTooLarge, match="at most 268435456 are allowed in a JPEG"):
        run(declared(60_000, 60_000), drafted)
