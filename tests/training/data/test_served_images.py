"""Images of a data set as a server would see them."""

import numpy as np
import pytest
import torch

from training.data.dataset import ImageSet, Normalization
from training.data.preprocessing_spec import preprocessing_spec
from training.data.served_images import batch_size, served_batches


@pytest.mark.parametrize("channels", [1, 3])
def test_pixels_of_the_right_size_arrive_unchanged(channels: int):
    pixels = torch.randint(256, (5, channels, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    spec = preprocessing_spec((channels, 8, 8), 8, Normalization((0.5,) * channels, (0.5,) * channels))
    batches = list(served_batches(ImageSet(pixels, torch.arange(5), tuple("abcde")), spec, batch=2))
    assert [labels.tolist() for _, labels in batches] == [[0, 1], [2, 3], [4]]
    np.testing.assert_array_equal(np.concatenate([images for images, _ in batches]), pixels.permute(0, 2, 3, 1))


@pytest.mark.parametrize(("side", "largest"), [(28, 256), (224, 41), (3000, 1)])
def test_batches_of_large_images_are_small(side: int, largest: int):
    """So that what a network computes of them fits into memory."""
    count = min(largest + 1, 60)
    images = ImageSet(
        torch.zeros(1, 1, 1, 1, dtype=torch.uint8).expand(count, 1, side, side), torch.zeros(count), ("a",)
    )
    spec = preprocessing_spec((1, side, side), side, Normalization((0.5,), (0.5,)))
    sizes = [len(labels) for _, labels in served_batches(images, spec)]
    assert sizes == ([count] if count <= largest else [largest, 1])
    assert batch_size(side, side) == largest
