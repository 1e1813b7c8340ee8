"""How a server turns pictures into what a network trained here expects."""

from io import BytesIO

import numpy as np
import pytest
import torch
from PIL import Image

from models.images.decoder import MAX_PIXELS, Preprocessor
from training.data.dataset import ImageSet, Normalization
from training.data.preprocessing_spec import spec_of_files, spec_of_images


@pytest.mark.parametrize(("channels", "mode", "polarity"), [(1, "L", "light_on_dark"), (3, "RGB", "as_is")])
def test_the_spec_of_images_gives_pictures_like_them(channels, mode, polarity):
    images = ImageSet(torch.zeros(2, channels, 4, 5, dtype=torch.uint8), torch.zeros(2), ("a",), polarity)
    normalization = Normalization((0.1,) * channels, (0.3,) * channels)
    spec = spec_of_images(images, normalization)
    assert (spec.mode, spec.height, spec.width, spec.polarity) == (mode, 4, 5, polarity)
    assert (spec.mean, spec.std) == (normalization.mean, normalization.std)


@pytest.mark.parametrize(("height", "width"), [(32, 32), (32, 64), (64, 32)])
@pytest.mark.parametrize("crop", [None, 28])
def test_a_server_shows_the_network_the_pixels_that_it_was_trained_on(height, width, crop):
    pixels = np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)
    images = ImageSet(torch.from_numpy(pixels).permute(2, 0, 1)[None], torch.zeros(1), ("a",))
    spec = spec_of_images(images, Normalization((0.1,) * 3, (0.3,) * 3), crop)
    file = BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    top, left = ((height - crop) // 2, (width - crop) // 2) if crop else (0, 0)
    shown = pixels[top : top + (crop or height), left : left + (crop or width)]
    assert np.array_equal(Preprocessor(spec, MAX_PIXELS)(file.getvalue()), shown)


def test_the_spec_of_files_crops_the_middle_of_what_was_resized():
    spec = spec_of_files(3, 40, 32)
    assert (spec.shape, spec.resize, spec.crop) == ((32, 32, 3), 40, "center")
    assert spec_of_files(1, 28).shape == (28, 28, 1)
