import numpy as np
import pytest
import torch

from training.data.dataset import ImageSet, Normalization, hold_out, measure
from training.errors import DataError


def _numbered(count, channels=1):
    """Images that can be told apart: the first two pixels spell the label."""
    labels = torch.arange(count)
    images = torch.zeros(count, channels, 4, 5, dtype=torch.uint8)
    images[:, 0, 0, 0], images[:, 0, 0, 1] = labels // 256, labels % 256
    return ImageSet(images, labels, tuple(map(str, range(count))))


def test_hold_out_takes_each_image_once_and_keeps_its_label():
    left, held = hold_out(_numbered(1000), 0.1)
    assert (len(left), len(held)) == (900, 100)
    assert sorted(torch.cat([left.labels, held.labels]).tolist()) == list(range(1000))
    for part in (left, held):
        spelt = part.images[:, 0, 0, 0].long() * 256 + part.images[:, 0, 0, 1]
        assert torch.equal(spelt, part.labels)


def test_hold_out_is_random_and_always_the_same():
    first, second = hold_out(_numbered(1000), 0.1)[1].labels, hold_out(_numbered(1000), 0.1)[1].labels
    assert torch.equal(first, second)
    assert 300 < first.double().mean() < 700


def test_nothing_is_held_out_when_nothing_is_asked():
    left, held = hold_out(_numbered(10), 0)
    assert (len(left), len(held)) == (10, 0)


@pytest.mark.parametrize("fraction", [0.01, 0.99])
def test_empty_side_of_a_split_is_refused(fraction):
    with pytest.raises(DataError, match="empty"):
        hold_out(_numbered(10), fraction)


def test_measure_is_numpys_mean_and_deviation():
    pixels = np.random.default_rng(0).integers(0, 256, (600, 3, 8, 9), np.uint8)
    pixels[:, 1] //= 4
    measured = measure(ImageSet(torch.from_numpy(pixels), torch.zeros(600, dtype=torch.int64), ("a",)))
    np.testing.assert_allclose(measured.mean, (pixels / 255).mean((0, 2, 3)), atol=5.1e-5)
    np.testing.assert_allclose(measured.std, (pixels / 255).std((0, 2, 3)), atol=5.1e-5)


def test_images_without_any_contrast_are_refused():
    with pytest.raises(DataError, match="same value"):
        measure(ImageSet(torch.full((2, 1, 4, 4), 7, dtype=torch.uint8), torch.zeros(2, dtype=torch.int64), ("a",)))


def test_normalization_works_channel_by_channel():
    images = torch.tensor([0.0, 255.0]).repeat(3, 1).view(1, 3, 1, 2)
    normalised = Normalization(mean=(0.0, 0.5, 1.0), std=(1.0, 0.5, 0.25))(images)
    torch.testing.assert_close(normalised.flatten(), torch.tensor([0.0, 1, -1, 1, -4, 0]))
