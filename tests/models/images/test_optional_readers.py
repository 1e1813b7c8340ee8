"""TIFF, AVIF and HEIC against Pillow's own reading of them."""

import itertools
import struct
from collections.abc import Iterator
from contextlib import suppress
from io import BytesIO

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps

from models.images.decoder import Preprocessor
from models.images.errors import CorruptImage, ImageError, ImageTooLarge, UnsupportedImage
from models.images.image_type import TYPE_NAMES
from models.images.optional_readers import lacks
from models.images.preprocessing import Preprocessing
from tests.models.images.corpus import SIZE
from tests.models.images.damage import DAMAGE, Damage, damaged
from tests.models.images.pictures import COLOUR, MAX_PIXELS, encode, smooth
from tests.models.images.test_readers import BOTH, each_of, shown
from tests.models.images.test_tiff import by_hand

pillow_heif = pytest.importorskip("pillow_heif")


def run(data: bytes, spec: Preprocessing, max_pixels: int = MAX_PIXELS) -> np.ndarray:
    return Preprocessor(spec, max_pixels, tuple(TYPE_NAMES))(data)


def made(mode: str) -> Image.Image:
    image = smooth("RGBA", *SIZE)
    if mode in ("I;16", "I", "F"):
        levels = np.asarray(image.convert("L")).astype(np.uint16)
        return (
            Image.fromarray(levels * 257) if mode == "I;16" else Image.fromarray(levels.astype(np.int32)).convert(mode)
        )
    return image.convert("P").convert("PA") if mode == "PA" else image.convert(mode)


def tiffs() -> Iterator[tuple[str, bytes]]:
    modes = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr", "I;16", "I", "F")
    for mode, compression in itertools.product(modes, ("raw", "tiff_lzw", "tiff_adobe_deflate", "packbits")):
        yield f"TIFF {mode} {compression}", encode(made(mode), "TIFF", compression=compression)
    for mode in ("L", "RGB", "CMYK"):
        yield f"TIFF {mode} jpeg", encode(made(mode), "TIFF", compression="jpeg")
    yield "TIFF fax", encode(made("1"), "TIFF", compression="group4")
    yield "TIFF in strips", encode(made("RGB"), "TIFF", strip_size=24 * 3 * 5)
    xmp = b'<x:xmpmeta><rdf:Description tiff:Orientation="6"/></x:xmpmeta>'
    yield "TIFF XMP", encode(made("RGB"), "TIFF", tiffinfo={700: xmp})
    yield "TIFF no such orientation", encode(made("RGB"), "TIFF", tiffinfo={0x112: 9, 700: xmp})
    yield "BigTIFF", encode(made("RGB"), "TIFF", big_tiff=True)
    yield "TIFF of two pages", encode(made("RGB"), "TIFF", save_all=True, append_images=[made("L")])


def turned(file_format: str) -> Iterator[tuple[str, bytes]]:
    for value in range(1, 9):
        exif = Image.Exif()
        exif[0x0112] = value
        yield f"{file_format} turned {value}", encode(made("RGB"), file_format, exif=exif)


def avifs() -> Iterator[tuple[str, bytes]]:
    for mode, subsampling in itertools.product(("L", "RGB", "RGBA"), ("4:4:4", "4:2:0")):
        yield f"AVIF {mode} {subsampling}", encode(made(mode), "AVIF", subsampling=subsampling, speed=10)
    yield "AVIF sequence", encode(made("RGB"), "AVIF", save_all=True, append_images=[made("RGB").rotate(180)], speed=10)


@BOTH
@each_of(*tiffs(), *turned("TIFF"), *avifs(), *turned("AVIF"))
def test_every_kind_of_tiff_and_avif_is_shown_as_pillow_has_it(data: bytes, spec: Preprocessing):
    image = Image.open(BytesIO(data))
    image.load()
    if image.mode.startswith("I;16"):  # whose high byte counts; Pillow clips at 255
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    np.testing.assert_array_equal(run(data, spec), shown(ImageOps.exif_transpose(image), spec))


def heic(image: Image.Image) -> bytes:
    stream = BytesIO()
    pillow_heif.from_pillow(image).save(stream, quality=90, chroma=444)
    return stream.getvalue()


@BOTH
@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
def test_a_heic_is_shown_as_its_library_has_it(mode: str, spec: Preprocessing):
    data = heic(made(mode))
    expected = shown(pillow_heif.read_heif(data).to_pillow(), spec)
    np.testing.assert_array_equal(run(data, spec), expected)
    difference = expected.astype(int) - shown(made(mode), spec)
    assert np.abs(difference).mean() < 8  # it is the picture


PICTURE = smooth("RGB", 64, 96)
FORMATS = {
    "tiff": encode(PICTURE, "TIFF", compression="tiff_lzw"),
    "raw tiff": encode(PICTURE, "TIFF", strip_size=64 * 3 * 5),
    "avif": encode(PICTURE, "AVIF", speed=10),
    "heic": heic(PICTURE),
}


@pytest.mark.parametrize("name", FORMATS)
def test_the_limit_holds_for_each(name: str):
    run(FORMATS[name], COLOUR, 64 * 96)
    with pytest.raises(ImageTooLarge, match="64 x 96 pixels, at most 6143"):
        run(FORMATS[name], COLOUR, 64 * 96 - 1)
    with pytest.raises(UnsupportedImage, match=f"this is {name.split()[-1].upper()}; send PNG, JPEG, WebP, BMP or GIF"):
        Preprocessor(COLOUR, MAX_PIXELS)(FORMATS[name])


def test_a_tile_that_is_larger_than_allowed_is_refused():
    side = 4, 1, 48_000
    data = by_hand((0x100, 4, 1, 13), (0x101, 4, 1, 29), (0x142, *side), (0x143, *side), (0x144, 4, 1, 8))
    with pytest.raises(ImageTooLarge, match="48000 x 48000 pixels"):
        run(data, COLOUR)


@settings(max_examples=400)
@given(st.sampled_from(sorted(FORMATS)), DAMAGE)
def test_damaged_images_raise_nothing_else_than_an_image_error(name: str, damage: Damage):
    with suppress(ImageError):
        assert run(damaged(FORMATS[name], damage), COLOUR).shape == COLOUR.shape


def test_a_damaged_tiff_is_not_told_to_the_log(capfd: pytest.CaptureFixture[str]):
    for place in range(200, len(FORMATS["tiff"]), 300):
        data = bytearray(FORMATS["tiff"])
        data[place] ^= 0xFF
        with suppress(CorruptImage):
            run(bytes(data), COLOUR)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("name", FORMATS)
def test_half_of_a_file_is_corrupt(name: str):
    with pytest.raises(CorruptImage):
        run(FORMATS[name][: len(FORMATS[name]) // 2], COLOUR)


def test_all_can_be_read_here():
    assert [kind for kind in TYPE_NAMES if lacks(kind)] == []


def test_an_avif_that_describes_less_than_it_holds_is_refused():
    data = bytearray(FORMATS["avif"])
    place = data.index(b"ispe") + 8
    data[place : place + 8] = struct.pack(">II", 32, 32)
    with pytest.raises(ImageTooLarge, match="64 x 96 pixels, at most 2000"):
        run(bytes(data), COLOUR, 2000)
