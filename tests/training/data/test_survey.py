import io

import numpy as np
import pytest
from PIL import Image

from tests.models.images.pictures import chunk, encode
from tests.training.folders import KINDS, below, pack, picture, pictures
from training.data.layout import read_layout
from training.data.survey import survey


def _file(mode, size, kind):
    return encode(Image.new(mode, size, 7), kind)


@pytest.mark.parametrize("kind", KINDS)
def test_every_file_is_counted_in_its_class_or_as_no_image(tmp_path, kind):
    files = below("train", pictures(2)) | below("val", {"red/1.png": picture("red", 5), "red/2.png": b"damaged"})
    train, val = survey(read_layout(pack(tmp_path, kind, files))).parts
    assert (train.name, train.counts) == ("train", {"blue": 2, "green": 2, "red": 2})
    assert (val.name, val.counts, list(val.unreadable)) == ("val", {"red": 1}, ["val/red/2.png"])


def test_sizes_and_modes_are_pillows(tmp_path):
    files = {
        "a/1.png": _file("L", (10, 20), "PNG"),
        "a/2.png": _file("I;16", (30, 20), "PNG"),
        "b/3.jpg": _file("CMYK", (64, 64), "JPEG"),
        "b/4.png": _file("RGBA", (8, 8), "PNG"),
    }
    (found,) = survey(read_layout(pack(tmp_path, "folder", files))).parts
    assert found.sizes_by_area() == [(8, 8), (30, 20), (64, 64)]
    assert found.modes == {"L": 1, "I;16": 1, "CMYK": 1, "RGBA": 1}


def test_files_that_train_are_counted_if_pillows_open_refuses_them(tmp_path):
    text = chunk(b"tEXt", b"a\0b")[:-1] + b"?"
    png = _file("L", (10, 20), "PNG")
    gif = _file("1", (30, 20), "GIF")
    frame = gif.index(b",", 13 + (3 << (gif[10] & 7) + 1))
    files = {"a/1.png": png[:33] + text + png[33:], "b/2.jpg": _file("L", (9_500, 9_500), "JPEG")}
    files["b/3.gif"] = gif[:frame] + b"!\xf1\0" + gif[frame:]
    for data, refusal in zip(files.values(), (OSError, Image.DecompressionBombWarning, OSError), strict=True):
        with pytest.raises(refusal):
            Image.open(io.BytesIO(data))
    (found,) = survey(read_layout(pack(tmp_path, "folder", files))).parts
    assert found.sizes_by_area() == [(10, 20), (30, 20), (9_500, 9_500)]
    assert not found.unreadable


def test_equal_files_in_two_parts_or_two_classes_are_found(tmp_path):
    one, two, three = (picture("red", seed) for seed in range(3))
    files = {"train/a/1.png": one, "train/a/again.png": one, "train/b/2.png": two, "train/a/2.png": two}
    files |= {"train/b/3.png": three, "train/b/same.png": three, "test/a/1.png": one, "test/b/4.png": picture("red", 9)}
    found = {frozenset(group) for group in survey(read_layout(pack(tmp_path, "folder", files))).duplicates}
    assert found == {
        frozenset({"train/a/1.png", "train/a/again.png", "test/a/1.png"}),
        frozenset({"train/a/2.png", "train/b/2.png"}),
    }


def test_pictures_without_classes_are_counted(tmp_path):
    files = below("train", pictures(1)) | {"test/1.png": picture("red", 1)}
    assert survey(read_layout(pack(tmp_path, "folder", files))).parts[1].counts == {"": 1}


def test_samples_are_a_few_pictures_from_all_of_a_class(tmp_path):
    files = {f"{name}/{index:02}.png": _file("L", (64, 64), "PNG") for name in "ab" for index in range(20)}
    files |= {f"a/{index:02}.png": picture("red", index, (64, 64)) for index in range(20)}
    (found,) = survey(read_layout(pack(tmp_path, "folder", files))).parts
    assert {name: len(samples) for name, samples in found.samples.items()} == {"a": 7, "b": 7}
    kept = [np.asarray(Image.open(io.BytesIO(files[f"a/{index:02}.png"]))) for index in (0, 3, 6, 9, 12, 15, 18)]
    np.testing.assert_array_equal(found.samples["a"], kept)
