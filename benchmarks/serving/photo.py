"""Synthetic photographs: the size, the file size and the spectrum of real ones, from a seed.

Natural images have amplitudes that fall as one over the spatial frequency; that is what makes JPEG's work.
"""

import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

SIZE = 500, 375  # width, height: the typical picture of ImageNet
FILE_BYTES = 100_000
LARGE_SIZE, LARGE_QUALITY = (4000, 3000), 90  # a telephone's 12 megapixels
GRAIN = 6.0  # standard deviation of a sensor's noise, in levels
SEED = 7
_OBJECTS = 12


def photo_jpeg() -> bytes:
    """A JPEG of the quality at which it comes closest to FILE_BYTES."""
    image = _scene(np.random.default_rng(SEED))
    files = [_encode(image, quality) for quality in range(50, 99)]
    return min(files, key=lambda file: abs(len(file) - FILE_BYTES))


def large_jpeg() -> bytes:
    """The same scene as a telephone writes it: 12 megapixels, with the grain of its sensor."""
    random = np.random.default_rng(SEED)
    scene = np.asarray(_scene(random).resize(LARGE_SIZE, Image.Resampling.BICUBIC), np.float32)
    grain = GRAIN * random.standard_normal(scene.shape, np.float32)
    return _encode(Image.fromarray(np.clip(scene + grain, 0, 255).astype(np.uint8)), LARGE_QUALITY)


def _encode(image: Image.Image, quality: int) -> bytes:
    file = io.BytesIO()
    image.save(file, "JPEG", quality=quality)
    return file.getvalue()


def _scene(random: np.random.Generator) -> Image.Image:
    """Textured ground with a few sharp-edged, textured objects on it."""
    image = _texture(random)
    for _ in range(_OBJECTS):
        mask = Image.new("L", SIZE)
        x, y = random.uniform(0, SIZE[0]), random.uniform(0, SIZE[1])
        width, height = random.uniform(20, 160, 2)
        ImageDraw.Draw(mask).ellipse((x - width / 2, y - height / 2, x + width / 2, y + height / 2), fill=255)
        image.paste(_texture(random), mask=mask.filter(ImageFilter.GaussianBlur(1)))
    return image


def _texture(random: np.random.Generator) -> Image.Image:
    """Colour noise whose amplitude falls as 1/f, mostly common to the three channels."""
    common = _pink(random)
    contrast, tint = random.uniform(25, 55), random.uniform(60, 190, 3)
    channels = [tint[i] + contrast * (0.9 * common + 0.4 * _pink(random)) for i in range(3)]
    return Image.fromarray(np.clip(np.stack(channels, axis=-1), 0, 255).astype(np.uint8))


def _pink(random: np.random.Generator) -> NDArray[np.float64]:
    """Noise [height, width] of mean 0 and variance 1."""
    width, height = SIZE
    frequency = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None, :])
    frequency[0, 0] = np.inf
    noise = np.fft.irfft2(np.fft.rfft2(random.normal(size=(height, width))) / frequency, s=(height, width))
    return np.asarray(noise / noise.std())
