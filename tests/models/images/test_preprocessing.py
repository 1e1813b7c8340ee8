import dataclasses

import pytest
from pydantic import ValidationError

from models.images.preprocessing import Preprocessing

GREY = Preprocessing.usual((6, 8, 1), 9, (0.25,), (0.5,))
COLOUR = Preprocessing.usual((6, 8, 3), 9, (0.25, 0.5, 0.75), (0.5, 0.25, 0.125), polarity="as_is", draft=False)


def test_the_usual_is_spelt_out():
    assert dataclasses.asdict(COLOUR) == {
        "mode": "RGB",
        "height": 6,
        "width": 8,
        "resize": 9,
        "mean": (0.25, 0.5, 0.75),
        "std": (0.5, 0.25, 0.125),
        "crop": "center",
        "interpolation": "bilinear",
        "antialias": True,
        "exif_transpose": True,
        "background": (255, 255, 255),
        "sixteen_bit": "high_byte",
        "polarity": "as_is",
        "draft": False,
    }
    assert (GREY.mode, GREY.draft) == ("L", True)


@pytest.mark.parametrize(("spec", "shape"), [(GREY, (6, 8, 1)), (COLOUR, (6, 8, 3))])
def test_the_shape_is_height_width_channels(spec: Preprocessing, shape: tuple[int, int, int]):
    assert (spec.shape, spec.channels) == (shape, shape[2])


@pytest.mark.parametrize(
    ("spec", "changes", "complaint"),
    [
        (COLOUR, {"polarity": "light_on_dark"}, "light_on_dark is for mode L"),
        (COLOUR, {"mode": "L"}, "mode L needs 1 values of mean and of std"),
        (GREY, {"std": (0.5, 0.5)}, "mode L needs 1 values of mean and of std"),
        (GREY, {"resize": 7}, "resize 7 is smaller than the crop 6 x 8"),
        (GREY, {"height": 0}, "greater than 0"),
        (GREY, {"width": 65_536}, "less than or equal to 65535"),
        (GREY, {"std": (0.0,)}, "greater than 0"),
        (GREY, {"mean": (float("nan"),)}, "finite number"),
        (GREY, {"background": (0, 0, 256)}, "less than or equal to 255"),
        (GREY, {"resize": 9.0}, "valid integer"),
    ],
)
def test_what_does_not_go_together_is_refused(spec: Preprocessing, changes: dict[str, object], complaint: str):
    with pytest.raises(ValidationError, match=complaint):
        dataclasses.replace(spec, **changes)  # type: ignore[arg-type]
