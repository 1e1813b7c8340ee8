from io import BytesIO

import pytest
from PIL import Image

from benchmarks.serving.photo import photo_jpeg


def test_the_photograph_is_always_the_same_and_as_large_as_a_real_one():
    photo = photo_jpeg()
    assert photo == photo_jpeg()
    assert len(photo) == pytest.approx(100_000, rel=0.03)
    image = Image.open(BytesIO(photo))
    assert (image.format, image.mode, image.size) == ("JPEG", "RGB", (500, 375))
