"""What the user says of a network goes before its publisher, and both before what is usual."""

from pathlib import Path

import pytest

from training.errors import UsageError, WeightsError
from training.options import ImportOptions
from training.weights.model_spec import ModelSpec, distinct, parse_labels, parse_numbers, spec_of_options

KNOWN = ModelSpec(labels=("cat", "dog"), mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25))


def test_what_one_spec_lacks_the_other_gives():
    spec = ModelSpec(size=40, mean=(0.1, 0.2, 0.3)).over(KNOWN)
    assert spec == ModelSpec(labels=KNOWN.labels, mean=(0.1, 0.2, 0.3), std=KNOWN.std, size=40)


@pytest.mark.parametrize(("side", "resize"), [(32, 32), (223, 223), (224, 256), (448, 512)])
def test_large_pictures_are_cropped_and_small_ones_only_resized(side, resize):
    labels, spec = KNOWN.settle(2, side)
    assert labels == KNOWN.labels
    assert (spec.shape, spec.resize, spec.draft) == ((side, side, 3), resize, False)


@pytest.mark.parametrize(
    ("spec", "told"),
    [
        (ModelSpec(labels=("cat", "dog")), "nothing tells --mean, --std"),
        (ModelSpec(mean=(123.675, 116.28, 103.53)).over(KNOWN), "scale to 255.* --mean 0.485,0.456,0.406"),
        (ModelSpec(std=(58.395, 57.12, 57.375)).over(KNOWN), "scale to 255.* --std 0.229,0.224,0.225"),
        (ModelSpec(interpolation="lanczos").over(KNOWN), "resized with lanczos, .* bilinear and bicubic.*--interp"),
        (ModelSpec(crop="squash", crop_pct=0.95).over(KNOWN), r"the middle is 0\.95.* say --crop-pct 1"),
        (ModelSpec(other_crop="pictures are squeezed").over(KNOWN), "pictures are squeezed.* say --resize"),
        (ModelSpec(labels=("cat", "dog", "elk")).over(KNOWN), "has 2 classes, but there are 3 labels"),
        (ModelSpec(labels=("cat",)).over(KNOWN), "2 labels at least"),
        (ModelSpec(resize=8).over(KNOWN), "preprocessing: .*resize 8 is smaller than the crop 32 x 32"),
        (ModelSpec(std=(0.5, 0.0, 0.5)).over(KNOWN), r"std\.1: .*greater than 0"),
    ],
)
def test_what_is_missing_or_does_not_go_together_is_told(spec, told):
    with pytest.raises(WeightsError, match=told):
        spec.settle(2, 32)


@pytest.mark.parametrize(
    ("spec", "resize"),
    [
        (ModelSpec(crop_pct=0.875), 256),
        (ModelSpec(crop_pct=0.95), 235),
        (ModelSpec(crop_pct=1.0), 224),
        (ModelSpec(resize=232).over(ModelSpec(crop_pct=0.95)), 232),
        (ModelSpec(crop_pct=0.9).over(ModelSpec(resize=256, other_crop="squeezed")), 248),
    ],
)
def test_the_crop_is_a_part_of_the_shorter_side_as_timm_rounds_it(spec: ModelSpec, resize: int):
    _, preprocessing = spec.over(KNOWN).settle(2, 224)
    assert (preprocessing.resize, preprocessing.height) == (resize, 224)


def test_labels_that_repeat_are_told_apart_by_their_index():
    """As the list of ImageNet's names that circulates, with two cranes and two maillots."""
    assert distinct(("crane", "hen", "crane", "jay"), 4) == ("crane (0)", "hen", "crane (2)", "jay")
    with pytest.raises(WeightsError, match=r"'crane \(2\)' is one of them already"):
        distinct(("crane", "crane (2)", "crane"), 3)


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        ({"resize": 256, "crop_pct": 0.9}, "leave one out"),
        ({"resize": 256, "crop_mode": "squash"}, "squeezes pictures to the network's size: leave out --resize"),
    ],
)
def test_flags_that_do_not_go_together_are_told(flags, told):
    options = ImportOptions(source="a.pth", repository=Path(), name="a", **flags)
    with pytest.raises(UsageError, match=told):
        spec_of_options(options)


def test_numbers_and_labels_are_read_from_words_or_a_file(tmp_path):
    assert parse_numbers("0.485,0.456,0.406") == (0.485, 0.456, 0.406)
    assert parse_labels("cat, dog") == ("cat", "dog")
    (path := tmp_path / "labels.txt").write_text("\ufeffcat, grey\ndog\n\n\n")  # as Windows and editors write it
    assert parse_labels(f"@{path}") == ("cat, grey", "dog")


def test_numbers_and_labels_that_are_none_are_told(tmp_path):
    with pytest.raises(WeightsError, match="'inf,0,0' is not numbers with commas between them"):
        parse_numbers("inf,0,0")
    (path := tmp_path / "labels.json").write_text('["cat", "dog"]\n')
    with pytest.raises(WeightsError, match=r"labels\.json: it is JSON, and needed is a label on each line"):
        parse_labels(f"@{path}")
    with pytest.raises(WeightsError, match="the label of class 1 is empty: give each class a name"):
        distinct(("cat", " ", "dog"), 3)
