"""Resize, crop and orientation against torchvision's, through the whole preprocessor."""

import dataclasses
import math
from io import BytesIO

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps
from torchvision.transforms import InterpolationMode
from torchvision.transforms.functional import center_crop, resize

from models.images.preprocessing import Preprocessing
from tests.models.images.pictures import COLOUR, GREY, encode, noise, pixels_of, run, smooth

TORCHVISION_FILTERS = {"bilinear": InterpolationMode.BILINEAR, "bicubic": InterpolationMode.BICUBIC}


@st.composite
def resizes(draw: st.DrawFn) -> tuple[tuple[int, int], Preprocessing]:
    """An image's size, and a crop of it; also of very long and very small ones.

    None is a pixel wide afterwards: torch 2.14 resizes to that wrongly.
    """
    side = st.integers(1, 300)
    height, width = draw(st.integers(2, 40)), draw(st.integers(2, 40))
    spec = dataclasses.replace(
        COLOUR,
        height=height,
        width=width,
        resize=max(height, width) + draw(st.integers(0, 20)),
        interpolation=draw(st.sampled_from(["bilinear", "bicubic"])),
    )
    return (draw(side), draw(side)), spec


@settings(max_examples=300)
@given(resizes())
def test_resize_and_crop_are_torchvisions(example: tuple[tuple[int, int], Preprocessing]):
    """Of images that are not tall: Pillow 13 resizes tall ones in another order under torchvision's hands."""
    size, spec = example
    image = noise("RGB", max(size), min(size))
    resized = resize(image, [spec.resize], TORCHVISION_FILTERS[spec.interpolation])
    expected = center_crop(resized, [spec.height, spec.width])
    # A box's place is a 32-bit float, which tips what lies midway between two levels, at most in each direction.
    assert np.abs(run(encode(image, "BMP"), spec).astype(int) - pixels_of(expected)).max() <= 2


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize("size", [(500, 375), (375, 500), (640, 427), (1200, 1600), (256, 256), (300, 300)])
def test_images_of_a_photographs_size_are_within_a_level_of_torchvisions(size: tuple[int, int], interpolation: str):
    spec = dataclasses.replace(COLOUR, height=224, width=224, resize=256, interpolation=interpolation)
    image = smooth("RGB", *size)
    resized = resize(image, [256], TORCHVISION_FILTERS[interpolation])
    difference = run(encode(image, "BMP"), spec).astype(int) - pixels_of(center_crop(resized, [224, 224]))
    assert np.abs(difference).max() <= (1 if interpolation == "bilinear" else 2)
    assert np.mean(np.abs(difference) > 1) < 1e-4


@settings(max_examples=300)
@given(resizes())
def test_resize_and_crop_are_torchvisions_in_floating_point(example: tuple[tuple[int, int], Preprocessing]):
    size, spec = example
    # Without the extremes, bicubic's overshoot meets no bound.
    image = noise("RGB", *size).point([64 + level // 2 for level in range(256)] * 3)
    exact = torch.from_numpy(pixels_of(image).astype(np.float32)).permute(2, 0, 1).contiguous()
    resized = resize(exact, [spec.resize], TORCHVISION_FILTERS[spec.interpolation], antialias=True)
    expected = center_crop(resized, [spec.height, spec.width]).permute(1, 2, 0).numpy()
    # One rounding to whole levels after another; bicubic's weights, some negative, amplify the first.
    bound = 1.01 if spec.interpolation == "bilinear" else 1.2
    assert np.abs(run(encode(image, "BMP"), spec) - expected).max() < bound


@pytest.mark.parametrize("size", [(40, 90), (90, 40)])
def test_pixels_are_those_of_every_version_of_pillow(size: tuple[int, int]):
    """Along the rows first, as all versions did until 13 made that depend on the shape."""
    image = noise("L", *size)
    spec = dataclasses.replace(GREY, interpolation="bicubic")
    start = round((54 - 24) / 2) / 54 * 90
    box = (0, start, 40, start + 40) if size == (40, 90) else (start, 0, start + 40, 40)
    left, top, right, bottom = box
    rows = image.resize((24, size[1]), Image.Resampling.BICUBIC, (left, 0, right, size[1]))
    expected = rows.resize((24, 24), Image.Resampling.BICUBIC, (0, top, 24, bottom))
    np.testing.assert_array_equal(run(encode(image), spec), pixels_of(expected))


@pytest.mark.parametrize("size", [(1, 900_000), (900_000, 1), (1, 1), (3, 200_000)])
def test_extreme_shapes_are_cropped_to_their_centre(size: tuple[int, int]):
    assert (run(encode(Image.new("L", size, 77))) == 77).all()


@pytest.mark.parametrize(("resize_to", "reduction"), [(24, 8), (52, 8), (53, 4), (104, 4), (105, 2), (209, 1)])
def test_draft_lets_the_jpeg_decoder_shrink_while_no_side_gets_too_short(resize_to: int, reduction: int):
    spec = dataclasses.replace(COLOUR, height=resize_to, width=resize_to, resize=resize_to, draft=True)
    data = encode(smooth("RGB", 417, 417), "JPEG")
    image = Image.open(BytesIO(data))
    image.draft("RGB", (417 // reduction, 417 // reduction))
    assert image.width == math.ceil(417 / reduction)
    box = (0, 0, 417 / reduction, 417 / reduction)  # without the last block's overhang
    expected = image.resize((resize_to, resize_to), Image.Resampling.BILINEAR, box)
    np.testing.assert_array_equal(run(data, spec), pixels_of(expected))


@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_draft_changes_little(mode: str):
    spec = GREY if mode == "L" else COLOUR
    data = encode(smooth("RGB", 640, 417), "JPEG", quality=90)
    whole, drafted = (run(data, dataclasses.replace(spec, draft=draft)).astype(int) for draft in (False, True))
    assert 0 < np.abs(whole - drafted).mean() < 1


@pytest.mark.parametrize("orientation", range(2, 9))
@pytest.mark.parametrize("size", [(61, 40), (40, 61), (60, 41), (33, 33)])
def test_a_turned_image_is_cropped_as_if_it_had_been_upright(orientation: int, size: tuple[int, int]):
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encode(smooth("RGB", *size), "PNG", exif=exif)
    spec = dataclasses.replace(COLOUR, height=17, width=22)
    upright = ImageOps.exif_transpose(Image.open(BytesIO(data)))
    expected = center_crop(resize(upright, [24]), [17, 22])
    assert np.abs(run(data, spec).astype(int) - pixels_of(expected)).max() <= 1


@pytest.mark.parametrize("size", [(500, 375), (375, 500), (40, 900), (96, 200)])
def test_what_is_squeezed_has_the_pixels_of_every_version_of_pillow(size: tuple[int, int]):
    """Earlier ones resize along the rows first."""
    spec = dataclasses.replace(COLOUR, height=64, width=96, resize=96, crop="squash")
    image = smooth("RGB", *size)
    rows = image.resize((96, size[1]), Image.Resampling.BILINEAR)
    assert np.array_equal(run(encode(image, "BMP"), spec), pixels_of(rows.resize((96, 64), Image.Resampling.BILINEAR)))


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize("size", [(500, 375), (375, 500), (96, 64)])
def test_all_of_a_picture_is_squeezed_as_torchvision_does(size: tuple[int, int], interpolation: str):
    spec = dataclasses.replace(COLOUR, height=64, width=96, resize=96, crop="squash", interpolation=interpolation)
    image = smooth("RGB", *size)
    expected = resize(image, [64, 96], TORCHVISION_FILTERS[interpolation])
    difference = run(encode(image, "BMP"), spec).astype(int) - pixels_of(expected)
    assert np.abs(difference).max() <= (1 if interpolation == "bilinear" else 2)
