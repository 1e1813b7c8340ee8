"""Images that were trained on, counted by what they show."""

from types import SimpleNamespace

import pytest
import torch

from tests.training.folders import below, pack, picture, pictures
from training.data.dataset import ImageSet, hold_out
from training.data.fingerprint import fingerprint
from training.data.preprocessing_spec import spec_of_files
from training.data.sources import load
from training.loop.learned_images import count_learned


def _learner(images, held_back, crop):
    """What has learned from files at 32 x 32 pixels, and was judged by the crop of others."""
    sets = images.decode(spec_of_files(3, 32)), held_back.decode(spec_of_files(3, 32, crop))
    return SimpleNamespace(
        labels=images.classes,
        preprocessing=spec_of_files(3, 32, crop),
        fingerprints=[fingerprint(each) for each in sets],
    )


@pytest.mark.parametrize("crop", [None, 24])
def test_files_are_known_by_what_they_show_and_those_held_back_by_their_names(tmp_path, crop):
    files = pictures(20)
    files |= {f"red/again {index}.png": files[f"red/{index}.png"] for index in range(20)}
    images, held_back = hold_out(load(str(pack(tmp_path, "folder", files)), tmp_path, "train"), 0.2)
    learner = _learner(images, held_back, crop=crop)
    assert count_learned(held_back, learner) == 0, "as they were held back, though others look like them"
    assert count_learned(images, learner) == len(images)
    renamed = {f"red/other {index}.png": files[f"red/{index}.png"] for index in range(2)}
    renamed |= {"red/new.png": picture("red", 99), "violet/new.png": files["red/3.png"]}
    others = load(str(pack(tmp_path, "set.zip", below("test", renamed))), tmp_path, "test")
    assert count_learned(others, learner) == 2, "nor those of another class"


def test_arrays_are_known_by_their_pixels_but_for_what_may_be_chance():
    pixels = torch.randint(0, 256, (3_000, 1, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    whole = ImageSet(pixels, torch.arange(3_000) % 2, ("no", "yes"))
    images, held_back = hold_out(whole, 0.5)
    learner = SimpleNamespace(labels=whole.classes, fingerprints=[fingerprint(images), fingerprint(held_back)])
    assert count_learned(held_back, learner) == 0
    assert count_learned(whole, learner) == 1_500
    for shared, told in ((1, 0), (2, 2)):
        mixed = torch.cat([images.images[:shared], 255 - images.images[: 1_500 - shared]])
        labels = torch.cat([images.labels[:shared], images.labels[: 1_500 - shared]])
        assert count_learned(ImageSet(mixed, labels, whole.classes), learner) == told


def test_what_tells_no_images_has_learned_none(tmp_path):
    images = load(str(pack(tmp_path, "folder", pictures(1))), tmp_path, "train")
    assert count_learned(images, SimpleNamespace(fingerprints=None)) == 0
