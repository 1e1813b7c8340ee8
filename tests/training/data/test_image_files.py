import io
from collections import Counter
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms import v2

from tests.training.folders import COLOURS, KINDS, pack, picture, pictures
from training.data.archives import Entry, find_store
from training.data.dataset import hold_out
from training.data.image_files import FileSet
from training.data.layout import find_layout
from training.data.preprocessing_spec import spec_of_files
from training.errors import DataError

FILES = pictures(5)


def _images(tmp_path, files, kind="folder"):
    return find_layout(find_store(pack(tmp_path, kind, files))).files(None)


def _pixels(content):
    return np.asarray(Image.open(io.BytesIO(content)).convert("RGB"))


@pytest.mark.parametrize("kind", KINDS)
def test_images_of_the_right_size_are_decoded_as_they_are(tmp_path, kind):
    files = dict(reversed(FILES.items()))
    images = _images(tmp_path, files, kind).decode(spec_of_files(3, 32))
    assert images.classes == tuple(sorted(COLOURS))
    found = Counter(
        (images.classes[label], image.permute(1, 2, 0).numpy().tobytes())
        for image, label in zip(images.images, images.labels.tolist(), strict=True)
    )
    assert found == Counter((name.split("/")[0], _pixels(content).tobytes()) for name, content in files.items())


@pytest.mark.parametrize("size", [(80, 50), (50, 80), (31, 33), (700, 20)])
def test_photographs_are_resized_and_cropped_as_by_torchvision(tmp_path, size):
    files = {f"{name}/1.png": picture(name, 1, size) for name in COLOURS}
    images = _images(tmp_path, files).decode(spec_of_files(3, 32)).images
    reference = v2.Compose([v2.Resize(32), v2.CenterCrop(32), v2.PILToTensor()])
    for ours, content in zip(images, files.values(), strict=True):
        theirs = reference(Image.open(io.BytesIO(content)))
        assert (ours.int() - theirs.int()).abs().max() <= 2


def test_grey_networks_get_grey_images(tmp_path):
    images = _images(tmp_path, FILES).decode(spec_of_files(1, 32)).images
    assert images.shape == (15, 1, 32, 32)
    np.testing.assert_array_equal(images[0, 0], Image.open(io.BytesIO(FILES["blue/0.png"])).convert("L"))


@pytest.mark.parametrize("kind", KINDS)
def test_taken_images_keep_their_labels(tmp_path, kind):
    left, held = hold_out(_images(tmp_path, FILES, kind), 0.4)
    assert (len(left), len(held)) == (9, 6)
    pairs = [pair for part in (left, held) for pair in part.pixels(spec_of_files(3, 32))]
    expected = [
        (_pixels(content).tobytes(), sorted(COLOURS).index(name.split("/")[0])) for name, content in FILES.items()
    ]
    assert sorted((pixels.tobytes(), label) for pixels, label in pairs) == sorted(expected)


def test_what_is_no_image_is_passed_over_and_named(tmp_path):
    bad = {"red/cut.png": picture("red", 1)[:300], "red/note.txt": b"no image", "blue/empty.jpg": b""}
    images = _images(tmp_path, FILES | bad)
    (tmp_path / "folder" / "green" / "gone.png").symlink_to("/nowhere")
    images = find_layout(images.store).files(None)
    decoded = images.decode(spec_of_files(3, 32))
    assert decoded.labels.bincount().tolist() == [5, 5, 5]
    assert decoded.images.shape == (15, 3, 32, 32)
    assert sorted(images.unreadable) == ["blue/empty.jpg", "green/gone.png", "red/cut.png", "red/note.txt"]
    assert "not a PNG" in images.unreadable["red/note.txt"]
    assert "No such file" in images.unreadable["green/gone.png"]


def test_what_does_not_fit_onto_the_disk_is_told_in_bytes(tmp_path):
    many = _images(tmp_path, FILES).take(torch.zeros(10_000, dtype=torch.int64))
    needed = 10_000 * 3 * 60_000**2
    told = (
        f"10,000 images of 60000x60000 pixels take {needed:,} bytes in {tmp_path}, which cannot be allocated .*are free"
    )
    with pytest.raises(DataError, match=told):
        many.allocate(spec_of_files(3, 60_000), tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["folder"]


def test_cifar10_is_the_published_one(shared_data):
    images = find_layout(find_store(shared_data / "cifar10" / "test.tar.gz")).files("test").decode(spec_of_files(3, 32))
    assert images.images.shape == (10_000, 3, 32, 32)
    assert images.labels.bincount().tolist() == [1000] * 10
    assert " ".join(images.classes) == "airplane automobile bird cat deer dog frog horse ship truck"
    # The test images' mean; of the training images it is 0.4914, 0.4822, 0.4465.
    means = (images.images.double().mean((0, 2, 3)) / 255).tolist()
    assert means == pytest.approx([0.4942, 0.4851, 0.4504], abs=1e-4)
    assert torch.equal(images.labels.sort().values, images.labels)


class _ManyOf:
    """A store of files with the same content, which lies in memory once; counts the bytes that were read."""

    def __init__(self, content, count):
        self.path, self.content, self.read = Path("many"), content, 0
        self.listed = [Entry(f"a/{place}.png", len(content), place) for place in range(count)]

    def entries(self):
        return self.listed

    @contextmanager
    def opened(self):
        yield self._read

    def _read(self, entry):
        self.read += entry.size
        return self.content


@pytest.mark.parametrize(("size", "count", "ahead"), [(60 << 20, 10, 240 << 20), (150 << 20, 3, 150 << 20)])
def test_files_are_read_ahead_up_to_a_bound_of_bytes(size, count, ahead):
    """Pictures with so much behind their end: each comes, in order, and no more are read than fit."""
    start = FILES["blue/0.png"]
    store = _ManyOf(start + bytes(size - len(start)), count)
    files = FileSet(store, tuple(store.listed), torch.arange(count), tuple(map(str, range(count))))
    most, labels = 0, []
    for given, (pixels, label) in enumerate(files.pixels(spec_of_files(3, 32))):
        most = max(most, store.read - given * size)
        labels.append(label)
        np.testing.assert_array_equal(pixels, _pixels(start))
    assert (most, labels) == (ahead, list(range(count)))


def test_file_of_absurd_size_is_not_read(tmp_path):
    images = _images(tmp_path, FILES | {"red/huge.png": b""})
    with (tmp_path / "folder" / "red" / "huge.png").open("wb") as stream:
        stream.truncate(1 << 40)
    images = find_layout(images.store).files(None)
    assert len(images.decode(spec_of_files(3, 32))) == 15
    assert images.unreadable == {"red/huge.png": "1,099,511,627,776 bytes, at most 268,435,456 are read"}
