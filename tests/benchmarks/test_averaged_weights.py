import pytest

from benchmarks.averaged_weights import FROZEN, lost, recipes, some
from tests.training.folders import below, pack, pictures


def test_each_recipe_that_averages_is_tried_once_and_a_frozen_one():
    assert recipes() == ["cifar10-resnet18", "cifar10-resnet20", "resnet20-fast", FROZEN]


def test_images_are_of_the_classes_asked_for_and_the_same_each_time(tmp_path):
    files = pictures(4)
    data = str(pack(tmp_path, "folder", below("train", files) | below("test", files)))
    first, again = (some(data, "train", ("red", "blue"), 6) for _ in range(2))
    assert first.classes == ("red", "blue")
    assert len(first) == 6
    assert (first.images == again.images).all()
    means = first.images.float().mean((2, 3))
    for mean, label in zip(means, first.labels.tolist(), strict=True):
        assert int(mean.argmax()) == (0, 2)[label]


def test_lost_is_what_the_better_one_had_more():
    assert lost({"raw": 0.94, "averaged": 0.25, "last.pt": 0.25, "best.pt": 0.9}) == pytest.approx(0.69)
    assert lost({"raw": 0.5, "averaged": 0.6, "last.pt": 0.6, "best.pt": 0.1}) == 0
