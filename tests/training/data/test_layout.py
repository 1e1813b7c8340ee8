import pytest

from tests.training.folders import KINDS, below, pack
from training.data.archives import find_store
from training.data.layout import find_parts, read_parts
from training.errors import DataError

CLASSES = {"cat/1.png": b"1", "dog/1.png": b"2", "dog/more/2.png": b"3"}


def _parts(tmp_path, files):
    parts = find_parts(find_store(pack(tmp_path, "folder", files)))
    return {part: (images.classes, sorted(_labelled(images))) for part, images in parts.items()}


def _labelled(images):
    return [(entry.parts[-1], label) for entry, label in zip(images.entries, images.labels.tolist(), strict=True)]


FOUND = (("cat", "dog"), [("1.png", 0), ("1.png", 1), ("2.png", 1)])


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        (CLASSES, {None: FOUND}),
        (below("pets", CLASSES), {None: FOUND}),
        (below("train", CLASSES), {"train": FOUND}),
        (below("pets/train", CLASSES) | below("pets/test", CLASSES), {"train": FOUND, "test": FOUND}),
        (below("train", CLASSES) | below("valid", CLASSES), {"train": FOUND, "val": FOUND}),
        (below("train", CLASSES) | below("validation", CLASSES), {"train": FOUND, "val": FOUND}),
        (CLASSES | {"README.md": b"", ".DS_Store": b"", "dog/.hidden": b"", ".git/x": b""}, {None: FOUND}),
        (CLASSES | below("__MACOSX", CLASSES), {None: FOUND}),
    ],
)
def test_parts_and_classes_are_found(tmp_path, files, expected):
    assert _parts(tmp_path, files) == expected


@pytest.mark.parametrize("kind", KINDS[1:])
def test_parts_may_be_archives(tmp_path, kind):
    """One that holds the classes, and one that holds them below the part's name."""
    for part, files in (("train", CLASSES), ("test", below("test", CLASSES))):
        pack(tmp_path, kind, files).rename(tmp_path / kind.replace("set", part))
    parts = read_parts(tmp_path)
    assert {part: (images.classes, sorted(_labelled(images))) for part, images in parts.items()} == {
        "train": FOUND,
        "test": FOUND,
    }


def test_archive_of_another_part_is_refused(tmp_path):
    pack(tmp_path, "set.zip", below("test", CLASSES)).rename(tmp_path / "train.zip")
    with pytest.raises(DataError, match=r"train\.zip must hold train/"):
        read_parts(tmp_path)


def test_parts_may_be_archives_and_folders(tmp_path):
    pack(tmp_path, "set.zip", CLASSES).rename(tmp_path / "train.zip")
    pack(tmp_path, "folder", CLASSES).rename(tmp_path / "val")
    parts = read_parts(tmp_path)
    assert {part: sorted(_labelled(images)) for part, images in parts.items()} == {"train": FOUND[1], "val": FOUND[1]}


@pytest.mark.parametrize("kind", ["folder", "set.zip"])
@pytest.mark.parametrize(("first", "second"), [("val", "validation"), ("val", "valid"), ("valid", "validation")])
def test_two_folders_for_one_part_are_refused(tmp_path, kind, first, second):
    files = [below(f"pets/{part}", CLASSES) for part in ("train", second, first)]
    path = pack(tmp_path, kind, {name: content for part in files for name, content in part.items()})
    with pytest.raises(DataError, match=rf"{kind} holds {first}/ and {second}/, both of them for val: move all"):
        read_parts(path)


@pytest.mark.parametrize(
    ("names", "told"),
    [
        (("train.tar", "train.zip"), r"train\.tar and train\.zip, both of them for train: move all"),
        (("val.zip", "validation.tgz"), r"val\.zip and validation\.tgz, both of them for val"),
        (("train.tar.gz", "train"), r"train\.tar\.gz and train/, both of them for train"),
        (("valid.tar", "val"), r"valid\.tar and val/, both of them for val"),
    ],
)
def test_two_archives_or_an_archive_and_a_folder_for_one_part_are_refused(tmp_path, names, told):
    for name in names:
        kind = "set" + "".join((tmp_path / name).suffixes).replace(".tgz", ".tar.gz")
        pack(tmp_path, kind if kind in KINDS else "folder", CLASSES).rename(tmp_path / name)
    with pytest.raises(DataError, match=told):
        read_parts(tmp_path)


def test_class_may_be_called_train(tmp_path):
    parts = _parts(tmp_path, {"bus/1.png": b"", "train/1.png": b""})
    assert parts == {None: (("bus", "train"), [("1.png", 0), ("1.png", 1)])}


@pytest.mark.parametrize(
    ("files", "told"),
    [
        ({"1.png": b"", "2.png": b""}, "folder must hold one folder of images for each class.* no folder with files"),
        ({"cat/1.png": b"", "cat/2.png": b""}, "only 'cat'"),
        (below("train", CLASSES) | {"test/cat/1.png": b""}, "test/ of .*folder must hold .* only 'cat'"),
    ],
)
def test_other_layouts_are_refused(tmp_path, files, told):
    with pytest.raises(DataError, match=told):
        _parts(tmp_path, files)
