import pytest
import torch
from torch import Generator
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import functional as reference

from training.augment import Affine

AFFINE = Affine(kind="affine", rotation=30.0, scale=0.25, shear=15.0, shift=3.0)


def _centred(count, height, width):
    """Bright in the middle, black at the border, so that the border's handling plays no part."""
    noise = torch.rand((count, 2, 7, 7), generator=Generator().manual_seed(1))
    images = torch.zeros(count, 2, height, width)
    middle = noise.repeat_interleave(2, 2).repeat_interleave(2, 3)
    images[:, :, height // 2 - 7 : height // 2 + 7, width // 2 - 7 : width // 2 + 7] = middle
    return images


@pytest.mark.parametrize("size", [(40, 40), (36, 52)])
def test_moves_each_image_as_torchvision_would(size):
    images = _centred(6, *size)
    amounts = AFFINE.draw(torch.arange(len(images)), 0, Generator().manual_seed(0))
    warped = AFFINE.apply(images, amounts)
    for image, (angle, scale, slant, right, down), ours in zip(images, amounts.tolist(), warped, strict=True):
        theirs = reference.affine(
            image, angle, [right, down], scale, [slant, 0.0], interpolation=InterpolationMode.BILINEAR
        )
        torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=0)


def test_amounts_fill_their_ranges():
    amounts = AFFINE.draw(torch.arange(20_000), 0, Generator().manual_seed(0))
    low, high = amounts.min(0).values.tolist(), amounts.max(0).values.tolist()
    assert low == pytest.approx([-30, 0.75, -15, -3, -3], abs=0.02)
    assert high == pytest.approx([30, 1.25, 15, 3, 3], abs=0.02)
    assert amounts.mean(0).tolist() == pytest.approx([0, 1, 0, 0, 0], abs=0.3)


def test_no_amount_leaves_images_as_they_are():
    images = torch.randint(0, 256, (3, 1, 28, 28)).float()
    still = Affine(kind="affine")
    amounts = still.draw(torch.arange(3), 0, Generator())
    torch.testing.assert_close(still.apply(images, amounts), images, atol=1e-2, rtol=0)


def test_parts_of_a_batch_are_warped_as_the_whole():
    images = torch.rand(8, 1, 28, 28)
    amounts = AFFINE.draw(torch.arange(8), 0, Generator().manual_seed(3))
    parts = [AFFINE.apply(images[half], amounts[half]) for half in (slice(0, 4), slice(4, 8))]
    torch.testing.assert_close(torch.cat(parts), AFFINE.apply(images, amounts), atol=1e-5, rtol=0)


def test_what_comes_into_view_is_black():
    shifted = Affine(kind="affine").apply(torch.full((1, 1, 10, 10), 255.0), torch.tensor([[0.0, 1, 0, 4, 0]]))
    assert shifted[0, 0, :, :4].max() < 1e-3
    assert shifted[0, 0, :, 4:].min() > 254.9
