"""Which images a model in 8 bits is calibrated on and judged by."""

import pytest

from tests.training.folders import KINDS, below, pack, pictures
from training.data.calibration_images import load_calibration_images
from training.errors import DataError

LABELS = ("blue", "green", "red")


def test_a_test_split_of_the_models_classes_tells_the_accuracy(tmp_path):
    data = pack(tmp_path, "folder", below("train", pictures(10)) | below("test", pictures(2)))
    found = load_calibration_images(str(data), tmp_path, ("yellow", *LABELS), 0.2)
    assert (len(found.calibration), len(found.choice), len(found.judged)) == (24, 6, 6)
    assert found.labelled
    assert {entry.parts[0] for entry in found.judged.entries} == {"test"}


@pytest.mark.parametrize(
    "files",
    [
        below("train", pictures(10)),
        pictures(10),
        {name.replace("/", "-"): content for name, content in pictures(10).items()},
        below("here/and/there", pictures(10)) | {"notes.txt": b"", ".hidden/1.png": b""},
        below("test", pictures(10)),
    ],
    ids=["no-test", "classes", "flat", "nested", "test-alone"],
)
@pytest.mark.parametrize("kind", KINDS)
def test_of_any_other_pictures_some_are_held_back_to_judge_by(tmp_path, kind, files):
    found = load_calibration_images(str(pack(tmp_path, kind, files)), tmp_path, LABELS, 0.2)
    assert (len(found.calibration), len(found.choice)) == (27, 3)
    assert found.judged is found.choice
    assert not found.labelled


@pytest.mark.parametrize("test", [0, 2])
def test_layers_are_chosen_by_a_val_which_no_network_was_trained_on(tmp_path, test):
    files = below("train", pictures(10)) | below("val", pictures(3)) | below("test", pictures(test))
    found = load_calibration_images(str(pack(tmp_path, "folder", files)), tmp_path, LABELS, 0.2)
    parts = [{entry.parts[0] for entry in some.entries} for some in (found.calibration, found.choice, found.judged)]
    assert parts == [{"train"}, {"val"}, {"test"} if test else {"val"}]
    assert (len(found.calibration), len(found.choice), found.labelled) == (30, 9, bool(test))
    names = [entry.parts for entry in found.calibration.entries]
    assert names != sorted(names)  # in random order


def test_pictures_of_other_classes_are_pictures(tmp_path):
    data = pack(tmp_path, "folder", below("train", pictures(10)) | below("test", pictures(2)))
    assert not load_calibration_images(str(data), tmp_path, ("cat", "dog"), 0.2).labelled


@pytest.mark.parametrize("data", ["nothing", "nothing.zip"])
def test_what_is_not_there_is_told(tmp_path, data):
    with pytest.raises(DataError, match="no data"):
        load_calibration_images(str(tmp_path / data), tmp_path, LABELS, 0.2)


def test_too_few_are_told(tmp_path):
    with pytest.raises(DataError, match=r"holds 6 images, which are too few to calibrate on: 8 at least"):
        load_calibration_images(str(pack(tmp_path, "folder", pictures(2))), tmp_path, LABELS, 0.2)
