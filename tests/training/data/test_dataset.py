import numpy as np
import pytest
import torch

from training.data.dataset import ImageSet, Normalization, hold_out, measure
from training.errors import DataError


def _numbered(*counts):
    """So many images of each class; the first two pixels spell each image's number."""
    labels = torch.tensor([label for label, count in enumerate(counts) for _ in range(count)])
    images = torch.zeros(len(labels), 1, 4, 5, dtype=torch.uint8)
    images[:, 0, 0, 0], images[:, 0, 0, 1] = torch.arange(len(labels)) // 256, torch.arange(len(labels)) % 256
    return ImageSet(images, labels, tuple(map(str, range(len(counts)))))


def _numbers(images):
    return (images.images[:, 0, 0, 0].long() * 256 + images.images[:, 0, 0, 1]).tolist()


def test_hold_out_takes_each_image_once_and_keeps_its_label():
    images = _numbered(600, 400)
    left, held = hold_out(images, 0.1)
    assert sorted(_numbers(left) + _numbers(held)) == list(range(1000))
    for part in (left, held):
        assert torch.equal(part.labels, images.labels[_numbers(part)])


def test_hold_out_is_random_and_always_the_same():
    first, second = _numbers(hold_out(_numbered(1000), 0.1)[1]), _numbers(hold_out(_numbered(1000), 0.1)[1])
    assert first == second
    assert 300 < sum(first) / len(first) < 700


@pytest.mark.parametrize(
    ("counts", "fraction", "held"),
    [
        ((600, 400), 0.1, [60, 40]),
        ((5923, 6742, 5958), 0.1, [592, 674, 596]),  # together a tenth
        ((980, 14, 6), 0.1, [98, 1, 1]),
        ((98, 1), 0.1, [10, 0]),
        ((98, 2), 0.1, [10, 1]),
        ((2, 2, 2), 0.01, [1, 1, 1]),
        ((3, 3), 0.99, [2, 2]),
    ],
)
def test_hold_out_keeps_the_shares_and_an_image_of_each_class_on_either_side(counts, fraction, held):
    left, back = hold_out(_numbered(*counts), fraction)
    assert back.labels.bincount(minlength=len(counts)).tolist() == held
    assert left.labels.bincount().min() >= 1


def test_nothing_is_held_out_when_nothing_is_asked():
    left, held = hold_out(_numbered(10), 0)
    assert (len(left), len(held)) == (10, 0)


def test_single_images_are_not_held_back():
    with pytest.raises(DataError, match="of no class are there two"):
        hold_out(_numbered(1, 1, 1), 0.5)


def test_measure_is_numpys_mean_and_deviation():
    pixels = np.random.default_rng(0).integers(0, 256, (600, 3, 8, 9), np.uint8)
    pixels[:, 1] //= 4
    measured = measure(ImageSet(torch.from_numpy(pixels), torch.zeros(600, dtype=torch.int64), ("a",)))
    np.testing.assert_allclose(measured.mean, (pixels / 255).mean((0, 2, 3)), atol=5.1e-5)
    np.testing.assert_allclose(measured.std, (pixels / 255).std((0, 2, 3)), atol=5.1e-5)


@pytest.mark.parametrize("other", [77, 78])
def test_images_without_contrast_are_refused(other):
    """Also where so few pixels differ that the deviation is 0 to the places that are kept."""
    pixels = torch.full((900, 1, 28, 28), 77, dtype=torch.uint8)
    pixels[0, 0, 0, 0] = other
    with pytest.raises(DataError, match="same value"):
        measure(ImageSet(pixels, torch.zeros(900, dtype=torch.int64), ("a",)))


def test_normalization_works_channel_by_channel():
    images = torch.tensor([0.0, 255.0]).repeat(3, 1).view(1, 3, 1, 2)
    normalised = Normalization(mean=(0.0, 0.5, 1.0), std=(1.0, 0.5, 0.25))(images)
    torch.testing.assert_close(normalised.flatten(), torch.tensor([0.0, 1, -1, 1, -4, 0]))
