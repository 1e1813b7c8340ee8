"""How much memory decoding takes: the forecast covers what Pillow takes, and is not far above it."""

import subprocess
import sys
from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from models.images.footprint import decoding_bytes
from models.images.preprocessing import Preprocessing
from tests.models.images.pictures import encode
from tests.models.images.test_tiff import HEIGHT, TILES, WIDTH, by_hand

SIDE = 3000
PEAK = """
import resource, sys
from models.images.decoder import Preprocessor
from tests.models.images.test_footprint import preprocessing
from models.images.image_type import TYPE_NAMES
preprocessor = Preprocessor(preprocessing(sys.argv[2]), 89_478_485, tuple(TYPE_NAMES))
data = open(sys.argv[1], "rb").read()
small = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
preprocessor(data)
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - small) * 1024, preprocessor.memory_bytes(data))
"""


def preprocessing(mode):
    channels = 1 if mode == "L" else 3
    return Preprocessing.usual((28, 28, channels), 28, (0.5,) * channels, (0.5,) * channels)


def picture(kind, mode, **options):
    bands = len(Image.new(mode, (1, 1)).getbands())
    pixels = np.zeros((SIDE, SIDE, bands), np.uint8) + np.arange(SIDE, dtype=np.uint8)[:, None, None]
    image = Image.fromarray(pixels.squeeze(), mode if bands > 1 else None).convert(mode)
    return encode(image, kind, **options)


@pytest.mark.parametrize(
    ("kind", "mode", "options"),
    [
        ("PNG", "RGBA", {}),
        ("PNG", "RGB", {}),
        ("PNG", "L", {}),
        ("BMP", "RGB", {}),
        ("GIF", "L", {"transparency": 3}),
        ("WEBP", "RGBA", {"lossless": True, "quality": 0, "method": 0}),
        ("JPEG", "RGB", {"progressive": True}),
        ("TIFF", "RGBA", {"compression": "tiff_lzw"}),
    ],
)
@pytest.mark.parametrize("target", ["L", "RGB"])
def test_decoding_takes_no_more_memory_than_forecast(kind, mode, options, target, tmp_path):
    file = tmp_path / "picture"
    file.write_bytes(picture(kind, mode, **options))
    done = subprocess.run([sys.executable, "-c", PEAK, file, target], capture_output=True, text=True, check=True)
    grown, forecast = map(int, done.stdout.split())
    assert grown < forecast + (24 << 20)  # strips, the encoded file, the interpreter's own
    assert forecast <= 20 * SIDE * SIDE


@pytest.mark.parametrize(("kind", "bytes_a_pixel"), [("AVIF", 20), ("TIFF", 16), ("PNG", 8)])
def test_what_is_forecast_goes_by_the_size_in_the_header(kind, bytes_a_pixel):
    assert decoding_bytes(encode(Image.new("RGB", (70, 50)), kind), None) == bytes_a_pixel * 70 * 50


def test_a_photograph_that_is_shrunk_while_it_is_decoded_takes_a_small_part():
    data = picture("JPEG", "RGB")
    assert decoding_bytes(data, 224) == 8 * (SIDE // 8) ** 2
    assert decoding_bytes(data, None) == 8 * SIDE**2


@pytest.mark.parametrize("size", [(3000, 500), (500, 3000)])
def test_a_panorama_is_shrunk_by_its_shorter_side(size):
    """As libjpeg, asked for that, shrinks it."""
    data = encode(Image.new("RGB", size), "JPEG")
    image = Image.open(BytesIO(data))
    image.draft("RGB", (224, 224))
    assert image.size == (size[0] // 2, size[1] // 2)
    assert decoding_bytes(data, 224) == 8 * image.width * image.height


@pytest.mark.parametrize(
    "data", [b"", b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"BM", b"GIF89a", b"RIFF1234WEBPVP8X", b"text"]
)
def test_what_has_no_sound_header_takes_nothing(data):
    assert decoding_bytes(data, 224) == 0


def test_a_tile_that_is_larger_than_its_page_is_counted():
    data = by_hand(WIDTH, HEIGHT, (0x142, 4, 1, 1600), (0x143, 4, 1, 800), TILES)
    assert decoding_bytes(data, None) == 16 * 1600 * 800
