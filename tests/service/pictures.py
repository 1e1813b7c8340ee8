"""Pictures for the models of `tests.artifacts`, and what a server must answer to them."""

import base64
import struct
import zlib
from io import BytesIO
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from tests.artifacts import LABELS, SHAPE, expected_probabilities

Pixels = NDArray[np.uint8]

TOLERANCE = 1e-4  # float32 against float64, and batches against single images


def pixels(seed: int = 0, first: int = 255, shape: tuple[int, int, int] = SHAPE) -> Pixels:
    """Noise [h, w, c]; `first` is the value of the first pixel, which asks some graphs to misbehave."""
    noise = np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)
    noise[0, 0, 0] = first
    return noise


def encode(image: Pixels, kind: str = "PNG", **options: Any) -> bytes:
    """The image as a file."""
    stream = BytesIO()
    Image.fromarray(image.squeeze()).save(stream, kind, **options)
    return stream.getvalue()


def b64(data: bytes) -> str:
    """The bytes as JSON carries them."""
    return base64.b64encode(data).decode()


def decode(data: bytes, mode: str = "L") -> Pixels:
    """What Pillow makes of a file, [h, w, c]."""
    image = np.asarray(Image.open(BytesIO(data)).convert(mode))
    return image.reshape(*image.shape[:2], -1)


def png(seed: int = 0, first: int = 255) -> bytes:
    """Noise as a PNG."""
    return encode(pixels(seed, first))


def huge_png(width: int, height: int) -> bytes:
    """A PNG that says it has this size and ends where its pixels would begin."""
    header = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    pixels_to_come = struct.pack(">I", 1 << 30) + b"IDAT"
    return (
        b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + header + struct.pack(">I", zlib.crc32(header)) + pixels_to_come
    )


def check(found: dict[str, Any], image: Pixels, labels: tuple[str, ...] = LABELS, top_k: int = 5) -> None:
    """Fail unless the predictions are those of this image."""
    expected = expected_probabilities(image, len(labels))
    order = np.argsort(-expected, kind="stable")[:top_k]
    assert [one["index"] for one in found["predictions"]] == order.tolist()
    assert [one["label"] for one in found["predictions"]] == [labels[i] for i in order]
    np.testing.assert_allclose([one["probability"] for one in found["predictions"]], expected[order], atol=TOLERANCE)
