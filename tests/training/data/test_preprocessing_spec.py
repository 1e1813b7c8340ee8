"""How a server turns pictures into what a network trained here expects."""

import pytest
import torch

from training.data.dataset import ImageSet, Normalization
from training.data.preprocessing_spec import spec_of_files, spec_of_images


@pytest.mark.parametrize(("channels", "mode", "polarity"), [(1, "L", "light_on_dark"), (3, "RGB", "as_is")])
def test_the_spec_of_images_gives_pictures_like_them(channels, mode, polarity):
    images = ImageSet(torch.zeros(2, channels, 4, 5, dtype=torch.uint8), torch.zeros(2), ("a",), polarity)
    normalization = Normalization((0.1,) * channels, (0.3,) * channels)
    spec = spec_of_images(images, normalization)
    assert (spec.mode, spec.height, spec.width, spec.resize, spec.polarity) == (mode, 4, 5, 5, polarity)
    assert (spec.mean, spec.std) == (normalization.mean, normalization.std)
    cropped = spec_of_images(images, normalization, 3)
    assert (cropped.height, cropped.width, cropped.resize) == (3, 3, 5)


def test_the_spec_of_files_crops_the_middle_of_what_was_resized():
    spec = spec_of_files(3, 40, 32)
    assert (spec.shape, spec.resize, spec.crop) == ((32, 32, 3), 40, "center")
    assert spec_of_files(1, 28).shape == (28, 28, 1)
