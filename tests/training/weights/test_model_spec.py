"""What the user says of a network goes before its publisher, and both before what is usual."""

import pytest

from training.errors import WeightsError
from training.weights.model_spec import ModelSpec, parse_labels, parse_numbers

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
        (ModelSpec(labels=("cat", "dog")), "do not tell --mean, --std"),
        (ModelSpec(labels=("cat", "cat")).over(KNOWN), "two labels are the same"),
        (ModelSpec(labels=("cat",)).over(KNOWN), "have 2 classes, but there are 1 labels"),
        (ModelSpec(resize=8).over(KNOWN), "preprocessing: .*resize 8 is smaller than the crop 32 x 32"),
        (ModelSpec(std=(0.5, 0.0, 0.5)).over(KNOWN), r"std\.1: .*greater than 0"),
    ],
)
def test_what_is_missing_or_does_not_go_together_is_told(spec, told):
    with pytest.raises(WeightsError, match=told):
        spec.settle(2, 32)


def test_numbers_and_labels_are_read_from_words_or_a_file(tmp_path):
    assert parse_numbers("0.485,0.456,0.406") == (0.485, 0.456, 0.406)
    assert parse_labels("cat, dog") == ("cat", "dog")
    (path := tmp_path / "labels.txt").write_text("cat, grey\ndog\n")
    assert parse_labels(f"@{path}") == ("cat, grey", "dog")
