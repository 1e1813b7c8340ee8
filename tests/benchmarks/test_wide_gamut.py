import numpy as np
import pytest

from benchmarks.wide_gamut import converted, measured


@pytest.mark.parametrize(
    ("srgb", "p3"), [((255, 0, 0), (234, 51, 35)), ((0, 255, 0), (117, 251, 76)), ((128, 128, 128), (128, 128, 128))]
)
def test_colours_are_those_that_design_tools_show(srgb: tuple[int, int, int], p3: tuple[int, int, int]):
    """Display P3 of sRGB's primaries, as CSS Color 4 and Apple's ColorSync have them."""
    found = converted(np.array(srgb, np.uint8), "sRGB", "Display P3").astype(int)
    assert np.abs(found - p3).max() <= 1


@pytest.mark.parametrize("space", ["Display P3", "Adobe RGB"])
def test_what_was_converted_comes_back(space: str):
    levels = np.random.default_rng(0).integers(0, 256, (1000, 3), np.uint8)
    back = converted(converted(levels, "sRGB", space), space, "sRGB")
    assert np.abs(back.astype(int) - levels).mean() < 1


def test_it_is_counted_how_often_the_class_is_another():
    images = np.zeros((4, 2, 2, 3), np.uint8)
    images[2:, ..., 0] = 255
    sees_green = measured(
        "Display P3", images, np.array([0, 0, 0, 0]), lambda pixels: np.eye(2)[(pixels[:, 0, 0, 1] > 20) * 1]
    )
    assert sees_green["accuracy_percent"] == {"passed over": 50.0, "converted": 100.0}
    assert sees_green["other_class_percent"] == 50.0
