import numpy as np
import pytest
import torch
from torch import Generator
from torchvision.transforms import InterpolationMode, RandomResizedCrop
from torchvision.transforms.v2 import functional as reference

from training.errors import RecipeError
from training.loop.augment import Affine, CropFlip, ResizedCrop

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


BENT = Affine(kind="affine", rotation=10.0, bend=2.0)
LEVEL = [0.0, 1.0, 0.0, 0.0, 0.0]


def test_knots_that_move_alike_shift_the_image():
    images = _centred(2, 28, 28)
    amounts = torch.tensor([LEVEL + [2.0] * 16 + [-1.0] * 16] * 2)
    torch.testing.assert_close(BENT.apply(images, amounts), images.roll((-1, 2), (2, 3)), atol=1e-4, rtol=0)


def test_a_knot_moves_what_is_near_it_and_nothing_else():
    stripes = torch.arange(28.0).repeat(28, 1).view(1, 1, 28, 28)
    knots = torch.zeros(2, 4, 4)
    knots[0, 0, 0] = -2.0  # the upper left corner comes from two columns further to the right
    moved = BENT.apply(stripes, torch.cat([torch.tensor(LEVEL), knots.flatten()]).unsqueeze(0)) - stripes
    assert moved[0, 0, 0, 0].item() == pytest.approx(2.0, abs=1e-4)
    assert 0.1 < moved[0, 0, 4, 4].item() < 1.9
    assert moved[0, 0, 20:, 20:].abs().max() < 1e-4


def test_bends_fill_their_range():
    amounts = BENT.draw(torch.arange(5_000), 0, Generator().manual_seed(0))
    assert amounts.shape == (5_000, 37)
    assert amounts[:, 5:].min(0).values.tolist() == pytest.approx([-2] * 32, abs=0.01)
    assert amounts[:, 5:].max(0).values.tolist() == pytest.approx([2] * 32, abs=0.01)


@pytest.mark.parametrize(("fill", "mode"), [("zero", "constant"), ("reflect", "reflect")])
def test_crops_are_windows_of_the_padded_image(fill, mode):
    images = torch.rand(40, 3, 9, 12)
    crop_flip = CropFlip(kind="crop-flip", padding=3, fill=fill)
    amounts = crop_flip.draw(torch.arange(40), 0, Generator().manual_seed(0))
    changed = crop_flip.apply(images, amounts)
    for image, (mirrored, left, top, *_), ours in zip(images, amounts.tolist(), changed, strict=True):
        padded = np.pad(image.numpy(), ((0, 0), (3, 3), (3, 3)), mode=mode)
        window = padded[:, int(top) : int(top) + 9, int(left) : int(left) + 12]
        np.testing.assert_array_equal(ours, window[:, :, ::-1] if mirrored else window)


def test_more_than_there_is_of_an_image_cannot_be_reflected():
    crop = CropFlip(kind="crop-flip", padding=8, fill="reflect")
    images = torch.zeros(2, 1, 8, 12)
    with pytest.raises(RecipeError, match=r"12x8 pixels cannot be reflected over 8 pixels.* give .* a smaller padding"):
        crop.apply(images, crop.draw(torch.arange(2), 0, torch.Generator()))


def test_crops_and_flips_fill_their_ranges_evenly():
    crop_flip = CropFlip(kind="crop-flip", padding=4)
    mirrored, left, top, *_ = crop_flip.draw(torch.arange(9000), 0, Generator().manual_seed(0)).long().unbind(1)
    for edge in (left, top):
        assert edge.bincount().tolist() == pytest.approx([1000] * 9, abs=150)
    assert 4200 < mirrored.sum() < 4800


def test_alternating_flip_shows_every_image_the_other_way_round_in_the_next_epoch():
    crop_flip = CropFlip(kind="crop-flip", alternate=True)
    order = torch.randperm(50_000, generator=Generator().manual_seed(0))
    first, second, third = (crop_flip.draw(order, epoch, Generator())[:, 0] for epoch in range(3))
    assert torch.equal(first, 1 - second)
    assert torch.equal(first, third)
    assert 24_500 < first.sum() < 25_500
    # As in coin tosses, images that are neighbours or far apart agree in half the cases.
    by_index = first[order.argsort()]
    for distance in (1, 2, 5, 64, 5000):
        assert (by_index[distance:] == by_index[:-distance]).double().mean() == pytest.approx(0.5, abs=0.01)
    assert torch.equal(crop_flip.draw(order[100:200], 0, Generator())[:, 0], first[100:200])


def test_cutout_is_a_square_of_the_mean_colour():
    images = torch.rand(200, 3, 16, 20, generator=Generator().manual_seed(0))
    cutout = CropFlip(kind="crop-flip", padding=0, alternate=True, cutout=5)
    amounts = cutout.draw(torch.arange(200), 0, Generator().manual_seed(1))
    amounts[:, 0] = 0
    changed = cutout.apply(images, amounts)
    cut = (changed != images).all(1)
    assert torch.equal(cut, (changed != images).any(1))
    means = images.mean((2, 3), keepdim=True).expand_as(images)
    torch.testing.assert_close(changed.transpose(0, 1)[:, cut], means.transpose(0, 1)[:, cut])
    sizes = [(int(mask.any(0).sum()), int(mask.any(1).sum()), int(mask.sum())) for mask in cut]
    assert all(0 < width <= 5 and 0 < height <= 5 and width * height == count for width, height, count in sizes)
    assert (5, 5, 25) in sizes


RESIZED = ResizedCrop(kind="resized-crop", size=24)


@pytest.mark.parametrize("size", [(40, 40), (70, 50), (16, 16)])
def test_resized_crops_are_torchvisions(size):
    height, width = size
    images = torch.rand((40, 3, *size), generator=Generator().manual_seed(0)) * 255
    amounts = RESIZED.draw(torch.arange(40), 0, Generator().manual_seed(1))
    changed = RESIZED.apply(images, amounts)
    assert changed.shape == (40, 3, 24, 24)
    for image, amount, ours in zip(images, amounts.tolist(), changed, strict=True):
        mirrored, across, down, left, top = amount
        w, h = round(across * width), round(down * height)
        place = int(top * (height - h + 1)), int(left * (width - w + 1))
        theirs = reference.resized_crop(image, *place, h, w, [24, 24], InterpolationMode.BILINEAR, antialias=True)
        torch.testing.assert_close(ours, theirs.flip(2) if mirrored else theirs, atol=0.01, rtol=0)


def test_resized_crops_are_distributed_as_torchvisions():
    """Quantiles of share, aspect and place of the crop, and the share of those mirrored."""
    side, count = 1000, 20_000
    mirrored, across, down, left, top = RESIZED.draw(torch.arange(count), 0, Generator().manual_seed(0)).unbind(1)
    ours = torch.stack([across * down, across / down, left * (1 - across), top * (1 - down)])
    with torch.random.fork_rng():
        torch.manual_seed(0)
        image = torch.empty(1, side, side)
        boxes = [RandomResizedCrop.get_params(image, [0.08, 1.0], [3 / 4, 4 / 3]) for _ in range(count)]
    y, x, h, w = torch.tensor(boxes, dtype=torch.float32).unbind(1)
    theirs = torch.stack([h * w / side**2, w / h, x / side, y / side])
    steps = torch.linspace(0, 1, 21)
    torch.testing.assert_close(ours.quantile(steps, 1), theirs.quantile(steps, 1), atol=0.015, rtol=0.02)
    assert mirrored.mean() == pytest.approx(0.5, abs=0.015)


def test_crop_that_never_fits_is_the_whole_image():
    wide = ResizedCrop(kind="resized-crop", size=8, least_area=1, aspect=100)
    amounts = wide.draw(torch.arange(500), 0, Generator().manual_seed(0))
    assert torch.equal(amounts[:, 1:3], torch.ones(500, 2))


def test_parts_of_a_batch_are_cropped_as_the_whole():
    images = torch.rand(8, 3, 32, 32)
    amounts = RESIZED.draw(torch.arange(8), 0, Generator().manual_seed(3))
    parts = [RESIZED.apply(images[half], amounts[half]) for half in (slice(0, 3), slice(3, 8))]
    torch.testing.assert_close(torch.cat(parts), RESIZED.apply(images, amounts))
