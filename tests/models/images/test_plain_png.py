import random
import struct
import zlib
from io import BytesIO

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from models.images.plain_png import PlainPng, is_supported
from tests.models.images.pictures import encode

HEADER, TAIL = 33, 12  # bytes: signature and IHDR; IEND


def png(pixels, **options) -> bytes:
    return encode(Image.fromarray(pixels), **options)


def pictures(mode):
    shape = (9, 7) if mode == "L" else (9, 7, 3)
    noise = st.integers(0, 2**32 - 1).map(lambda seed: np.random.default_rng(seed).integers(0, 256, shape, np.uint8))
    smooth = noise.map(lambda pixels: (np.cumsum(pixels, axis=1) // 9).astype(np.uint8))  # other PNG filters pay
    return st.tuples(noise | smooth, st.integers(0, 9)).map(lambda args: png(args[0], compress_level=args[1]))


def by_pillow(data: bytes) -> bytes | None:
    try:
        with Image.open(BytesIO(data), formats=["PNG"]) as image:
            return image.tobytes()
    except (OSError, SyntaxError, ValueError):
        return None


def with_payload(data: bytes, payload: bytes) -> bytes:
    """The PNG with another IDAT, its length and checksum right."""
    chunk = b"IDAT" + payload
    idat = struct.pack(">I", len(payload)) + chunk + struct.pack(">I", zlib.crc32(chunk))
    return data[:HEADER] + idat + data[-TAIL:]


def test_this_pillow_has_the_parts():
    assert is_supported()


@pytest.mark.parametrize("mode", ["L", "RGB"])
@given(data=st.data())
def test_pixels_are_pillows(mode, data):
    picture = data.draw(pictures(mode))
    assert PlainPng(mode, 7, 9).decode(picture) == by_pillow(picture) is not None


@given(pictures("L"), st.randoms(use_true_random=False))
def test_what_is_damaged_is_pillows_or_refused(picture, rng: random.Random):
    payload = bytearray(picture[HEADER + 8 : -TAIL - 4])
    payload[rng.randrange(len(payload))] ^= 1 << rng.randrange(8)
    damaged = [
        with_payload(picture, bytes(payload)),
        with_payload(picture, bytes(payload[: rng.randrange(len(payload))])),
        picture[: rng.randrange(len(picture))],
        picture + b"x",
    ]
    for one in damaged:
        pixels = PlainPng("L", 7, 9).decode(one)
        assert pixels is None or pixels == by_pillow(one)


@pytest.mark.parametrize("rows", range(9))
def test_a_picture_without_its_last_rows_is_left_to_pillow(rows: int):
    """Its data have an end, which comes too soon."""
    picture = with_payload(png(np.zeros((9, 7), np.uint8)), zlib.compress(bytes(rows * (1 + 7))))
    assert PlainPng("L", 7, 9).decode(picture) is None


@pytest.mark.parametrize(
    "other",
    [
        png(np.zeros((9, 8), np.uint8)),
        png(np.zeros((9, 7, 3), np.uint8)),
        png(np.zeros((9, 7, 4), np.uint8)),
        png(np.zeros((9, 7), np.uint16)),
        png(np.zeros((9, 7), np.uint8), dpi=(72, 72)),
        png(np.zeros((9, 7), np.uint8), transparency=0),
        b"",
        b"\x89PNG\r\n\x1a\n",
    ],
    ids=["size", "colour", "alpha", "16 bit", "another chunk", "transparency", "empty", "signature"],
)
def test_whatever_else_is_left_to_pillow(other):
    assert PlainPng("L", 7, 9).decode(other) is None
