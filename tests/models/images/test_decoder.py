import dataclasses
import struct
from contextlib import suppress
from io import BytesIO
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image, ImageOps

from models.images.decoder import Preprocessor
from models.images.errors import CorruptImage, ImageError, ImageTooLarge, UnsupportedImage
from models.images.preprocessing import Preprocessing
from tests.models.images.damage import DAMAGE, Damage, damaged
from tests.models.images.pictures import (
    COLOUR,
    GREY,
    MAX_PIXELS,
    chunk,
    encode,
    hand_made_png,
    noise,
    pixels_of,
    run,
    smooth,
)


@pytest.mark.parametrize("spec", [GREY, COLOUR], ids=["grey", "colour"])
@pytest.mark.parametrize(
    ("file_format", "options"),
    [("PNG", {}), ("BMP", {}), ("WEBP", {"lossless": True, "exact": True}), ("JPEG", {"quality": 95})],
)
def test_pixels_are_pillows(spec: Preprocessing, file_format: str, options: dict[str, Any]):
    data = encode(noise("RGB"), file_format, **options)
    expected = pixels_of(Image.open(BytesIO(data)).convert(spec.mode))
    pixels = run(data, spec)
    assert pixels.dtype == np.uint8
    assert pixels.shape == spec.shape
    assert pixels.flags.c_contiguous
    np.testing.assert_array_equal(pixels, expected)


def test_a_memoryview_is_taken():
    data = encode(noise("L"))
    np.testing.assert_array_equal(Preprocessor(GREY, MAX_PIXELS)(memoryview(data)), run(data))


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB"])
@pytest.mark.parametrize("spec", [GREY, COLOUR], ids=["grey", "colour"])
def test_opaque_modes_convert_as_pillow_does(mode: str, spec: Preprocessing):
    image = noise("RGB").convert(mode)
    np.testing.assert_array_equal(run(encode(image), spec), pixels_of(image.convert(spec.mode)))


@pytest.mark.parametrize("spec", [GREY, COLOUR], ids=["grey", "colour"])
def test_cmyk_converts_as_pillow_does(spec: Preprocessing):
    data = encode(smooth("CMYK", 24, 24), "JPEG", quality=95)
    expected = Image.open(BytesIO(data))
    assert expected.mode == "CMYK"
    np.testing.assert_array_equal(run(data, spec), pixels_of(expected.convert(spec.mode)))


def over(image: Image.Image, background: tuple[int, int, int]) -> NDArray[np.float64]:
    """The textbook's alpha x colour + (1 - alpha) x background."""
    rgba = np.asarray(image.convert("RGBA")).astype(float)
    alpha = rgba[:, :, 3:] / 255
    return alpha * rgba[:, :, :3] + (1 - alpha) * np.array(background)


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
@pytest.mark.parametrize("background", [(255, 255, 255), (0, 0, 0), (10, 200, 90)])
def test_alpha_shows_the_background(mode: str, background: tuple[int, int, int]):
    image = noise(mode)
    pixels = run(encode(image), dataclasses.replace(COLOUR, background=background))
    assert np.abs(pixels - over(image, background)).max() <= 1


def test_alpha_in_a_webp_shows_the_background():
    image = noise("RGBA")
    pixels = run(encode(image, "WEBP", lossless=True, exact=True), dataclasses.replace(COLOUR, background=(0, 0, 0)))
    assert np.abs(pixels - over(image, (0, 0, 0))).max() <= 1


def test_a_transparent_palette_entry_shows_the_background():
    image = Image.new("P", (24, 24), 0)
    image.putpalette([200, 0, 0, 0, 200, 0])
    image.paste(1, (12, 0, 24, 24))
    for file_format in ("PNG", "GIF"):
        pixels = run(encode(image, file_format, transparency=0), dataclasses.replace(COLOUR, background=(1, 2, 3)))
        assert (pixels[:, :12] == (1, 2, 3)).all(), file_format
        assert (pixels[:, 12:] == (0, 200, 0)).all(), file_format


def test_a_transparent_level_shows_the_background():
    image = Image.new("L", (24, 24), 60)
    image.paste(90, (12, 0, 24, 24))
    pixels = run(encode(image, transparency=60), dataclasses.replace(GREY, background=(7, 7, 7)))
    assert (pixels[:, :12] == 7).all()
    assert (pixels[:, 12:] == 90).all()


def sixteen_bit_png(samples: NDArray[np.uint16], colour_type: int, extra: bytes = b"") -> bytes:
    """Written by hand: Pillow writes no colour of 16 bits."""
    height, width = samples.shape[:2]
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in samples)
    return hand_made_png(width, height, 16, colour_type, rows, extra)


@pytest.mark.parametrize(("colour_type", "spec"), [(0, GREY), (2, COLOUR)], ids=["grey", "colour"])
def test_sixteen_bits_keep_their_high_byte(colour_type: int, spec: Preprocessing):
    samples = np.random.default_rng(3).integers(0, 2**16, spec.shape, dtype=np.uint16)
    np.testing.assert_array_equal(run(sixteen_bit_png(samples, colour_type), spec), samples >> 8)


def test_a_transparent_level_of_sixteen_bits_is_that_level_alone():
    samples = np.full((24, 24, 1), 0x4142, np.uint16)
    samples[:, 12:] = 0x4143
    pixels = run(sixteen_bit_png(samples, 0, chunk(b"tRNS", b"\x41\x42")))
    assert (pixels[:, :12] == 255).all()
    assert (pixels[:, 12:] == 0x41).all()


@pytest.mark.parametrize("file_format", ["PNG", "JPEG", "WEBP"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_pillows(file_format: str, orientation: int):
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encode(smooth("RGB", 24, 24), file_format, exif=exif)
    image = Image.open(BytesIO(data))
    np.testing.assert_array_equal(run(data, COLOUR), pixels_of(ImageOps.exif_transpose(image).convert("RGB")))
    np.testing.assert_array_equal(
        run(data, dataclasses.replace(COLOUR, exif_transpose=False)), pixels_of(image.convert("RGB"))
    )


@pytest.mark.parametrize("exif", [b"Exif\0\0", b"Exif\0\0II*\0\xff\xff\xff\xff", b"nonsense"])
def test_damaged_exif_turns_nothing(exif: bytes):
    image = smooth("RGB", 24, 24)
    np.testing.assert_array_equal(run(encode(image, "JPEG", exif=exif), COLOUR), run(encode(image, "JPEG"), COLOUR))


@pytest.mark.parametrize(("paper", "ink"), [(255, 0), (200, 30), (128, 255)])
def test_light_on_dark_inverts_dark_ink_on_light_paper(paper: int, ink: int):
    drawing = Image.new("L", (24, 24), paper)
    drawing.paste(ink, (8, 4, 16, 20))
    pixels = run(encode(drawing), dataclasses.replace(GREY, polarity="light_on_dark"))
    np.testing.assert_array_equal(pixels, 255 - pixels_of(drawing))
    np.testing.assert_array_equal(run(encode(drawing)), pixels_of(drawing))


def test_light_on_dark_leaves_light_ink_on_dark_paper():
    drawing = Image.new("L", (24, 24), 127)
    drawing.paste(255, (1, 1, 23, 23))
    pixels = run(encode(drawing), dataclasses.replace(GREY, polarity="light_on_dark"))
    np.testing.assert_array_equal(pixels, pixels_of(drawing))


@pytest.mark.parametrize(("side", "inverted"), [((0, 0, 24, 1), 24), ((0, 0, 1, 24), 24)])
def test_polarity_weighs_each_pixel_of_the_ring_once(side: tuple[int, int, int, int], inverted: int):
    """One side of 24 pixels at 255, the other 68 of the ring just so that the mean passes 127 or does not."""
    threshold = (127 * 92 - 255 * inverted) / 68
    for level, turns in ((int(threshold), False), (int(threshold) + 1, True)):
        image = Image.new("L", (24, 24), level)
        image.paste(255, side)
        pixels = run(encode(image), dataclasses.replace(GREY, polarity="light_on_dark"))
        assert (pixels[12, 12, 0] != level) == turns


def test_only_the_first_frame_counts():
    frames = [Image.new("L", (24, 24), level) for level in (50, 150)]
    for file_format in ("GIF", "PNG", "WEBP"):
        options = {"lossless": True} if file_format == "WEBP" else {}
        data = encode(frames[0], file_format, save_all=True, append_images=frames[1:], **options)
        assert Image.open(BytesIO(data)).n_frames == 2  # type: ignore[attr-defined]
        assert (run(data) == 50).all(), file_format


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"hello",
        b"%PDF-1.4",
        b"<svg/>",
        b"II*\0\x08\0\0\0",
        b"RIFF\x04\0\0\0WAVE",
        b"\x89PNG",
        b"\xff\xd8",
        b"GIF88a",
    ],
)
def test_other_types_are_unsupported(data: bytes):
    with pytest.raises(UnsupportedImage):
        run(data)


def test_types_that_pillow_knows_beyond_ours_are_unsupported():
    with pytest.raises(UnsupportedImage):
        run(encode(noise("L"), "TIFF"))


FORMATS = {
    "png": encode(noise("RGB", 20, 30)),
    "interlaced gif": encode(noise("RGB", 20, 30).convert("P"), "GIF", interlace=1),
    "bmp": encode(noise("RGB", 20, 30), "BMP"),
    "jpeg": encode(noise("RGB", 20, 30), "JPEG"),
    "progressive jpeg": encode(noise("RGB", 20, 30), "JPEG", progressive=True),
    "webp": encode(noise("RGB", 20, 30), "WEBP"),
    "lossless webp": encode(noise("RGBA", 20, 30), "WEBP", lossless=True),
    "apng": encode(noise("L", 20, 30), save_all=True, append_images=[noise("L", 20, 30).rotate(180)]),
    "exif": encode(
        noise("L", 20, 30), "JPEG", exif=b"Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0\0\0"
    ),
}


@pytest.mark.parametrize("name", FORMATS)
def test_an_image_at_the_limit_passes_and_one_beyond_does_not(name: str):
    Preprocessor(GREY, 600)(FORMATS[name])
    with pytest.raises(ImageTooLarge, match="20 x 30 pixels, at most 599"):
        Preprocessor(GREY, 599)(FORMATS[name])


@pytest.mark.parametrize("limit", [0, -1, Image.MAX_IMAGE_PIXELS + 1])
def test_a_limit_that_pillow_would_warn_of_is_refused(limit: int):
    with pytest.raises(ValueError, match="max_pixels"):
        Preprocessor(GREY, limit)


def patched(data: bytes, offset: int, replacement: bytes) -> bytes:
    return data[:offset] + replacement + data[offset + len(replacement) :]


HUGE = {
    "png": b"\x89PNG\r\n\x1a\n"
    + chunk(b"IHDR", struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0))
    + chunk(b"IDAT"),
    "gif screen": patched(FORMATS["interlaced gif"], 6, struct.pack("<HH", 60_000, 60_000)),
    "gif frame": patched(
        FORMATS["interlaced gif"], FORMATS["interlaced gif"].index(b",") + 5, struct.pack("<HH", 60_000, 60_000)
    ),
    "bmp": patched(FORMATS["bmp"], 18, struct.pack("<ii", 60_000, 60_000)),
    "jpeg": patched(FORMATS["jpeg"], FORMATS["jpeg"].index(b"\xff\xc0") + 5, struct.pack(">HH", 60_000, 60_000)),
    "lossy webp": patched(FORMATS["webp"], 26, struct.pack("<HH", 16_000, 16_000)),
    "lossless webp": patched(FORMATS["lossless webp"], 21, b"\xff\xff\xff\x0f"),
    "extended webp": b"RIFF\x16\0\0\0WEBPVP8X\x0a\0\0\0\x10\0\0\0" + b"\xff\xff\xff" * 2,
}


@pytest.mark.parametrize("name", HUGE)
def test_a_huge_size_in_a_small_file_is_refused_by_its_header(name: str):
    with pytest.raises(ImageTooLarge):
        run(HUGE[name])


@pytest.mark.parametrize("name", FORMATS)
def test_a_truncated_image_is_corrupt_unless_most_of_its_pixels_are_there(name: str):
    data = FORMATS[name]
    complete = run(data, COLOUR)
    outcomes = []
    for length in range(len(data)):
        try:
            pixels = run(data[:length], COLOUR)
        except ImageError as error:
            outcomes.append(type(error))
        else:
            np.testing.assert_array_equal(pixels[:20], complete[:20])
    assert outcomes.count(CorruptImage) > len(data) * 0.4  # half of the APNG is its second frame
    assert outcomes.index(CorruptImage) <= 12  # as soon as there is a whole signature


@settings(max_examples=500)
@given(
    st.sampled_from([b"", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"RIFF\0\1\0\0WEBPVP8X", b"GIF89a", b"BM"]),
    st.binary(),
)
def test_arbitrary_bytes_raise_nothing_else_than_an_image_error(magic: bytes, data: bytes):
    with suppress(ImageError):
        run(magic + data)


@settings(max_examples=1000)
@given(st.sampled_from(sorted(FORMATS)), DAMAGE)
def test_damaged_images_raise_nothing_else_than_an_image_error(name: str, damage: Damage):
    with suppress(ImageError):
        assert run(damaged(FORMATS[name], damage), COLOUR).shape == COLOUR.shape


MODES = {
    "PNG": ["1", "L", "LA", "P", "RGB", "RGBA", "I;16"],
    "GIF": ["1", "L", "P", "RGB", "RGBA"],
    "BMP": ["1", "L", "P", "RGB"],
    "JPEG": ["1", "L", "RGB", "CMYK", "YCbCr"],
    "WEBP": ["L", "RGB", "RGBA"],
}


def plain(mode: str, size: tuple[int, int], colour: tuple[int, int, int]) -> Image.Image:
    """One opaque colour all over."""
    if mode == "I;16":
        return Image.fromarray(np.full(size[::-1], colour[0] << 8 | colour[1], np.uint16))
    return Image.new("RGB", size, colour).convert(mode, dither=Image.Dither.NONE)


@settings(max_examples=300)
@given(st.data(), st.sampled_from([GREY, COLOUR]), st.integers(1, 60), st.integers(1, 60))
def test_a_plain_image_of_any_type_mode_and_size_stays_plain(
    draw: st.DataObject, spec: Preprocessing, width: int, height: int
):
    file_format = draw.draw(st.sampled_from(sorted(MODES)))
    mode = draw.draw(st.sampled_from(MODES[file_format]))
    colour = draw.draw(st.tuples(*[st.integers(0, 255)] * 3))
    options = {"lossless": True} if file_format == "WEBP" else {}
    data = encode(plain(mode, (width, height), colour), file_format, **options)
    decoded = Image.open(BytesIO(data))
    grey = mode == "I;16"  # whose high byte counts; Pillow would clip
    expected = Image.new("L", (1, 1), colour[0]).convert(spec.mode) if grey else decoded.convert(spec.mode)
    pixels = run(data, spec)
    assert pixels.shape == spec.shape
    assert np.abs(pixels.astype(int) - pixels_of(expected)[0, 0]).max() <= 1


@pytest.mark.parametrize("spec", [GREY, COLOUR], ids=["grey", "colour"])
@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "I;16"])
def test_large_images_converted_in_strips_have_the_same_pixels(
    mode: str, spec: Preprocessing, monkeypatch: pytest.MonkeyPatch
):
    levels = np.random.default_rng(0).integers(0, 1 << 16, (61, 47), np.uint16)
    image = Image.fromarray(levels) if mode == "I;16" else smooth("RGBA", 61, 47).convert(mode)
    data = encode(image, **({"transparency": 7} if mode in ("P", "L") else {}))
    whole = run(data, spec)
    for pixels in (1, 100, 47 * 20):  # a row at a time, two, twenty
        monkeypatch.setattr("models.images.decoder._STRIP_PIXELS", pixels)
        np.testing.assert_array_equal(run(data, spec), whole)
