"""Images of a data set as a server would see them."""

import numpy as np
import pytest
import torch

from training.data.dataset import ImageSet, Normalization
from training.data.preprocessing_spec import preprocessing_spec
from training.data.served_images import served_batches


@pytest.mark.parametrize("channels", [1, 3])
def test_pixels_of_the_right_size_arrive_unchanged(channels: int):
    pixels = torch.randint(256, (5, channels, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    spec = preprocessing_spec((channels, 8, 8), 8, Normalization((0.5,) * channels, (0.5,) * channels))
    batches = list(served_batches(ImageSet(pixels, torch.arange(5), tuple("abcde")), spec, batch=2))
    assert [labels.tolist() for _, labels in batches] == [[0, 1], [2, 3], [4]]
    np.testing.assert_array_equal(np.concatenate([images for images, _ in batches]), pixels.permute(0, 2, 3, 1))
