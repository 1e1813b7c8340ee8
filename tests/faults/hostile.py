"""Bodies that are meant to hurt: files cut short, with flipped bits, lying headers, bombs, polyglots."""

import random
import zlib
from collections.abc import Iterator
from typing import Any

import numpy as np
from PIL import Image

from tests.models.images.pictures import chunk, encode, hand_made_png
from tests.service.pictures import huge_png

SIDE = 24


def files(seed: int) -> list[bytes]:
    """One sound file of each kind that decoders treat in their own way."""
    noise = np.random.default_rng(seed).integers(0, 256, (SIDE, SIDE, 4), np.uint8)
    rgb, rgba, grey = (Image.fromarray(noise[..., :n].squeeze()) for n in (3, 4, 1))
    palette = rgb.quantize(16)
    turned = Image.Exif()
    turned[0x0112] = 6  # orientation
    frames: dict[str, Any] = {"save_all": True, "append_images": [rgb.rotate(90), rgb.rotate(180)], "duration": 40}
    return [
        encode(grey, "PNG"),
        encode(rgb, "PNG", exif=turned),
        encode(rgba, "PNG"),
        encode(palette, "PNG", transparency=0),
        encode(Image.fromarray(noise[..., 0].astype(np.uint16) * 257), "PNG"),
        encode(grey.convert("1"), "PNG"),
        encode(rgb, "PNG", **frames),
        encode(rgb, "JPEG", quality=90, exif=turned),
        encode(rgb.convert("CMYK"), "JPEG"),
        encode(rgb, "JPEG", progressive=True),
        encode(palette, "GIF", save_all=True, append_images=[palette.rotate(90)]),
        encode(rgba, "WEBP", lossless=True),
        encode(rgb, "WEBP", **frames),
        encode(rgb, "BMP"),
        encode(palette, "BMP"),
    ]


def bomb(width: int, height: int) -> bytes:
    """A sound PNG of a few kilobytes that unpacks to width x height black pixels."""
    return hand_made_png(width, height, 8, 0, bytes((width + 1) * height))


def bodies(count: int, seed: int = 0) -> Iterator[bytes]:
    """So many bodies; the same for the same seed."""
    rng = random.Random(seed)
    sound = files(seed)
    special = [
        b"",
        b"\x00" * 1000,
        bomb(3000, 3000),
        bomb(1, 100_000),
        huge_png(65_535, 65_535),
        huge_png(1, 2**31 - 1),
        b"GIF89a" + sound[0],
        sound[7] + sound[0],
        b"%PDF-1.4\n" + sound[0],
        b"<svg xmlns='http://www.w3.org/2000/svg'/>",
        sound[0][:33] + chunk(b"iCCP", b"x\0\0" + zlib.compress(bytes(1 << 20))) + sound[0][33:],
        sound[0][:33] + chunk(b"zTXt", b"x\0\0" + zlib.compress(bytes(1 << 20))) * 8 + sound[0][33:],
    ]
    yield from special[:count]
    for number in range(count - len(special)):
        yield _damage(rng, rng.choice(sound), number)


def _damage(rng: random.Random, data: bytes, number: int) -> bytes:
    match number % 4:
        case 0:
            return data[: rng.randrange(len(data))]
        case 1:
            return _flip(rng, data, 1)
        case 2:
            return _flip(rng, data, 30)
        case _:
            start, end = sorted(rng.randrange(len(data)) for _ in range(2))
            return data[:start] + rng.randbytes(rng.randrange(64)) + data[end:]


def _flip(rng: random.Random, data: bytes, bits: int) -> bytes:
    flipped = bytearray(data)
    for _ in range(bits):
        flipped[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    return bytes(flipped)
