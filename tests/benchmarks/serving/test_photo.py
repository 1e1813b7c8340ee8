from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from benchmarks.serving.photo import photo_jpeg


def test_the_photograph_is_always_the_same_and_as_large_as_a_real_one():
    photo = photo_jpeg()
    assert photo == photo_jpeg()
    assert len(photo) == pytest.approx(100_000, rel=0.03)
    image = Image.open(BytesIO(photo))
    assert (image.format, image.mode, image.size) == ("JPEG", "RGB", (500, 375))


def test_its_amplitudes_fall_as_one_over_the_spatial_frequency():
    """As those of natural images do: Field, J. Opt. Soc. Am. A 4 (1987), 2379."""
    grey = np.asarray(Image.open(BytesIO(photo_jpeg())).convert("L")).astype(float)
    window = np.outer(np.hanning(375), np.hanning(500))
    power = np.abs(np.fft.fft2((grey - grey.mean()) * window)) ** 2
    frequency = np.hypot(np.fft.fftfreq(375)[:, None], np.fft.fftfreq(500)[None, :])
    octaves = [(0.25 / 2**n, 0.5 / 2**n) for n in range(1, 6)]
    rings = [(frequency >= low) & (frequency < high) for low, high in octaves]
    amplitudes = [np.sqrt(power[ring].mean()) for ring in rings]
    slope, _ = np.polyfit(np.log([frequency[ring].mean() for ring in rings]), np.log(amplitudes), 1)
    assert slope == pytest.approx(-1, abs=0.15)
