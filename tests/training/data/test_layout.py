import os
import re
import tarfile
import zipfile

import pytest

from tests.training.folders import KINDS, below, pack
from training.data.archives import find_store
from training.data.layout import find_layout, read_layout
from training.errors import DataError

CLASSES = {"cat/1.png": b"1", "dog/1.png": b"2", "dog/more/2.png": b"3"}


def _parts(tmp_path, files):
    return _read(find_layout(find_store(pack(tmp_path, "folder", files))))


def _read(layout):
    read = {part: layout.files(part) for part in layout.parts}
    return {part: (images.classes, sorted(_labelled(images))) for part, images in read.items()}


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
    assert _read(read_layout(tmp_path)) == {"train": FOUND, "test": FOUND}


def test_archive_of_a_part_may_lack_classes(tmp_path):
    pack(tmp_path, "set.zip", CLASSES).rename(tmp_path / "train.zip")
    pack(tmp_path, "set.tar", {"cat/9.png": b""}).rename(tmp_path / "test.tar")
    assert read_layout(tmp_path).files("test").classes == ("cat",)


def test_archive_of_another_part_is_refused(tmp_path):
    pack(tmp_path, "set.zip", below("test", CLASSES)).rename(tmp_path / "train.zip")
    with pytest.raises(DataError, match=r"train\.zip must hold train/"):
        read_layout(tmp_path)


def test_parts_may_be_archives_and_folders(tmp_path):
    pack(tmp_path, "set.zip", CLASSES).rename(tmp_path / "train.zip")
    pack(tmp_path, "folder", CLASSES).rename(tmp_path / "val")
    assert _read(read_layout(tmp_path)) == {"train": FOUND, "val": FOUND}


@pytest.mark.parametrize("kind", ["folder", "set.zip"])
@pytest.mark.parametrize(("first", "second"), [("val", "validation"), ("val", "valid"), ("valid", "validation")])
def test_two_folders_for_one_part_are_refused(tmp_path, kind, first, second):
    files = [below(f"pets/{part}", CLASSES) for part in ("train", second, first)]
    path = pack(tmp_path, kind, {name: content for part in files for name, content in part.items()})
    with pytest.raises(DataError, match=rf"{kind} holds {first}/ and {second}/, both of them for val: move all"):
        read_layout(path)


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
        read_layout(tmp_path)


def test_class_may_be_called_train(tmp_path):
    parts = _parts(tmp_path, {"bus/1.png": b"", "train/1.png": b""})
    assert parts == {None: (("bus", "train"), [("1.png", 0), ("1.png", 1)])}


@pytest.mark.parametrize(
    ("files", "told"),
    [
        (
            {"1.png": b"", "2.png": b""},
            r"folder holds 2 images and no folders of classes: make one folder .* image,label",
        ),
        ({"cat/1.png": b"", "cat/2.png": b""}, "folder holds 2 images, in cat/ only: make one folder"),
        ({"cat/1.txt": b"", "dog/2.txt": b""}, "folder holds 2 files, none of them called like an image: make"),
        ({".hidden": b""}, "folder holds no files: make"),
        (
            below("train", CLASSES) | {"test/cow/1.png": b""},
            "test/ of .*folder holds 1 images, in cow/ only, and the classes to train on are cat, dog: make",
        ),
    ],
)
def test_pictures_without_classes_are_refused_once_they_are_asked_for(tmp_path, files, told):
    layout = find_layout(find_store(pack(tmp_path, "folder", files)))
    with pytest.raises(DataError, match=told):
        layout.files("test" if "test" in layout.parts else None)


@pytest.mark.parametrize(
    ("train", "other", "part"),
    [
        ("Training", "Testing", "test"),
        ("TRAIN", "Valid", "val"),
        ("train", "dev", "val"),
        ("train", "eval", "val"),
        ("seg_train/seg_train", "seg_test/seg_test", "test"),
        ("training_set/training_set", "test_set/test_set", "test"),
        ("train2017", "val2017", "val"),
        ("data/TrainImages", "data/TestImages", "test"),
        ("train/images", "test/images", "test"),
    ],
)
def test_parts_have_their_usual_names(tmp_path, train, other, part):
    assert _parts(tmp_path, below(train, CLASSES) | below(other, CLASSES)) == {"train": FOUND, part: FOUND}


@pytest.mark.parametrize("kind", ["Train.zip", "training.tar", "train_images.tar.gz"])
def test_archives_of_parts_have_their_usual_names(tmp_path, kind):
    pack(tmp_path, "set" + "".join((tmp_path / kind).suffixes), CLASSES).rename(tmp_path / kind)
    assert _read(read_layout(tmp_path)) == {"train": FOUND}


def _notes(tmp_path, files):
    return " | ".join(find_layout(find_store(pack(tmp_path, "folder", files))).notes)


PARTS = below("train", CLASSES) | below("val", CLASSES)


@pytest.mark.parametrize(
    ("files", "parts", "noted"),
    [
        (PARTS | {"runs/exp1/curves.png": b""}, {"train", "val"}, "runs/ is passed over: by its name"),
        (PARTS | {"extra/1.png": b""}, {"train", "val"}, "extra/ is passed over: by its name"),
        (below("train", CLASSES) | {"runs/exp1/curves.png": b""}, {"train"}, "runs/ is passed over"),
        (below("pets", PARTS) | {"runs/exp1/curves.png": b""}, {"train", "val"}, "runs/ is passed over"),
        (CLASSES | {"annotations/1.xml": b"", "annotations/2.xml": b""}, {None}, "none of its 2 files is called like"),
        (CLASSES | {"masks/a/1.png": b"", "masks/b/1.png": b""}, {None}, "masks/ is passed over: by its name"),
        (below("train", CLASSES) | below("val", {"cat/1.png": b""}), {"train", "val"}, "val/ has no image of dog"),
        (
            PARTS | {"test/cat/1.png": b"", "test/owl/1.png": b""},
            {"train", "val", "test"},
            "of owl, of which there are",
        ),
        (PARTS | {"test/1.png": b"", "test/2.png": b""}, {"train", "val", "test"}, "test/ of .* holds 2 images and no"),
        (PARTS | {"test/test/1.png": b""}, {"train", "val", "test"}, "holds 1 images, in test/ only"),
    ],
)
def test_what_does_not_count_is_noted(tmp_path, files, parts, noted):
    layout = find_layout(find_store(pack(tmp_path, "folder", files)))
    assert set(layout.parts) == parts
    assert re.search(noted, " | ".join(layout.notes))
    assert layout.files("train" if "train" in parts else None).classes == ("cat", "dog")


@pytest.mark.parametrize("kind", ["folder", "set.zip", "set.tar"])
def test_empty_class_is_noted(tmp_path, kind):
    path = pack(tmp_path, kind, CLASSES)
    if kind == "folder":
        (path / "cactus").mkdir()
    elif kind == "set.zip":
        with zipfile.ZipFile(path, "a") as archive:
            archive.mkdir("cactus")
    else:
        member = tarfile.TarInfo("cactus")
        member.type = tarfile.DIRTYPE
        with tarfile.open(path, "a") as archive:
            archive.addfile(member)
    assert find_layout(find_store(path)).notes == ("cactus/ is empty: it is no class",)


@pytest.mark.parametrize(
    ("files", "told"),
    [
        (
            below("north", CLASSES) | below("south", CLASSES),
            r"north/, south/, and in several of them cat, dog: which are",
        ),
        (
            {f"{pet}/{part}/1.png": b"" for pet in ("cat", "dog") for part in ("train", "test")},
            r"cat/, dog/, and in several of them test, train: which are the classes\?",
        ),
        (
            below("pets", PARTS) | {"more/x/1.png": b""},
            r"pets/ holds train, val: if these are .* give .*folder/pets instead",
        ),
        (
            {"bus/1.png": b"", "train/steam/1.png": b"", "train/electric/1.png": b""},
            r"train/, with folders for electric, steam, and beside it bus/: is train/ a part or a class\?",
        ),
        (below("train", CLASSES) | below("holdout", CLASSES), r"beside it holdout/: is train/ a part or a class\?"),
    ],
)
def test_what_can_be_understood_in_two_ways_is_asked(tmp_path, files, told):
    with pytest.raises(DataError, match=told):
        _parts(tmp_path, files)


def test_images_beside_the_classes_and_folders_in_them_are_noted(tmp_path):
    images = find_layout(find_store(pack(tmp_path, "folder", CLASSES | {"cover.png": b""}))).files(None)
    assert "1 images beside the folders of classes are passed over" in images.notes[0]
    assert "folders inside a class count as that class, in dog" in images.notes[1]


NAMES = {"nfc": "café", "nfd": "cafe\u0301", "latin-1": os.fsdecode(b"caf\xe9")}


@pytest.mark.parametrize("name", NAMES.values(), ids=NAMES)
@pytest.mark.parametrize("kind", ["folder", "set.tar"])
def test_names_in_any_encoding_read_as_text(tmp_path, name, kind):
    images = find_layout(find_store(pack(tmp_path, kind, {f"{name}/1.png": b"1", "dog/1.png": b"2"}))).files(None)
    assert images.classes == ("café", "dog")
    with images.store.opened() as read:
        assert sorted(map(read, images.entries)) == [b"1", b"2"]


def test_names_in_a_zip_are_in_cp437_or_in_utf8_that_is_not_marked(tmp_path):
    with zipfile.ZipFile(tmp_path / "old.zip", "w") as archive:
        archive.writestr("cafX/1.png", b"1")
        archive.writestr("dog/1.png", b"2")
    old = (tmp_path / "old.zip").read_bytes().replace(b"cafX", b"caf\x82")  # é of CP437
    (tmp_path / "old.zip").write_bytes(old)
    assert find_layout(find_store(tmp_path / "old.zip")).files(None).classes == ("café", "dog")
    unmarked = old.replace(b"caf\x82/1.png", "café/1p".encode().ljust(10, b"x"))
    assert len(unmarked) == len(old)
    (tmp_path / "unmarked.zip").write_bytes(unmarked)
    assert find_layout(find_store(tmp_path / "unmarked.zip")).files(None).classes == ("café", "dog")


def test_two_folders_with_one_name_in_other_bytes_are_refused(tmp_path):
    files = {f"{NAMES['nfc']}/1.png": b"1", f"{NAMES['nfd']}/1.png": b"2", "dog/1.png": b""}
    with pytest.raises(DataError, match="several folders whose names read 'café'"):
        _parts(tmp_path, files)


def test_parts_of_which_one_was_packed_elsewhere_have_the_same_classes(tmp_path):
    """macOS decomposes accents, Linux does not."""
    files = {f"train/{name}/1.png": b"" for name in ("café", "dog")} | {f"val/{NAMES['nfd']}/1.png": b""}
    layout = find_layout(find_store(pack(tmp_path, "folder", files)))
    assert layout.files("val").classes == ("café",)


FLAT = {"1.png": b"1", "2.png": b"2", "3.png": b"3"}
ROWS = "image,label\n1.png,cat\n2.png,dog\n3.png,dog\n"


@pytest.mark.parametrize(
    "files",
    [
        FLAT | {"labels.csv": ROWS.encode()},
        FLAT | {"anything.csv": ROWS.encode()},
        below("images", FLAT) | {"labels.csv": ROWS.encode()},
        below("images", FLAT) | {"labels.csv": ROWS.replace("1.png", "images/1.png").encode()},
        below("part1", FLAT) | {"part2/4.png": b"", "labels.csv": ROWS.encode()},
        below("north/x", FLAT) | {"south/x/4.png": b"", "south/y/4.png": b"", "labels.csv": ROWS.encode()},
    ],
)
def test_table_tells_the_classes_where_folders_do_not(tmp_path, files):
    assert _parts(tmp_path, files) == {None: (("cat", "dog"), [("1.png", 0), ("2.png", 1), ("3.png", 1)])}


def test_rows_without_images_and_images_without_rows_are_noted(tmp_path):
    files = {"1.png": b"", "2.png": b"", "7.png": b"", "labels.csv": ROWS.encode()}
    notes = find_layout(find_store(pack(tmp_path, "folder", files))).files(None).notes
    assert re.search(r"1 rows of labels\.csv name no image in .*folder", notes[1])
    assert notes[2] == "1 images are in no row of labels.csv: they are passed over"


def test_column_tells_the_parts_where_folders_do_not(tmp_path):
    rows = b"image,label,split\n1.png,cat,train\n2.png,dog,train\n3.png,dog,TEST\n"
    assert _parts(tmp_path, below("images", FLAT) | {"data.csv": rows}) == {
        "train": (("cat", "dog"), [("1.png", 0), ("2.png", 1)]),
        "test": (("cat", "dog"), [("3.png", 1)]),
    }


def test_column_with_the_parts_of_some_images_is_asked_about(tmp_path):
    rows = b"image,label,split\n1.png,cat,train\n2.png,dog,train\n3.png,dog,\n"
    store = find_store(pack(tmp_path, "folder", FLAT | {"data.csv": rows}))
    with pytest.raises(DataError, match=r"data\.csv tells the part, .*, of 2 of 3 images: fill that column"):
        find_layout(store)


def test_each_part_may_have_a_table_with_a_column_for_each_class(tmp_path):
    """As Roboflow exports a data set for classification."""
    table = {"_classes.csv": b"filename, cat, dog\n1.png, 1, 0\n2.png, 0, 1\n3.png, 0, 1\n"}
    expected = ("cat", "dog"), [("1.png", 0), ("2.png", 1), ("3.png", 1)]
    files = below("train", FLAT | table) | below("valid", FLAT | table)
    assert _parts(tmp_path, files) == {"train": expected, "val": expected}


def test_classes_whose_names_look_the_same_are_noted(tmp_path):
    files = below("train", {"Cat/1.png": b"", "dog/2.png": b""}) | below("val", {"cat /3.png": b"", "dog/4.png": b""})
    notes = find_layout(find_store(pack(tmp_path, "folder", files))).notes
    assert "'Cat' and 'cat ' are different classes, for their names differ in case or blanks" in notes


def test_archives_in_it_are_named_where_there_are_no_images(tmp_path):
    layout = find_layout(find_store(pack(tmp_path, "set.zip", {"images.zip": b"PK", "readme.txt": b""})))
    with pytest.raises(DataError, match=r"images\.zip: unpack it, and give what is in it"):
        layout.files(None)


def test_what_systems_leave_is_no_data(tmp_path):
    beside = {"a/@eaDir/1.png/SYNOPHOTO_THUMB_M.jpg": b"", "$RECYCLE.BIN/7.png": b"", "__MACOSX/a/._1.png": b""}
    beside |= {"a/Thumbs.db": b"", "b/desktop.ini": b"", "@eaDir/x.jpg": b""}
    expected = {None: (("a", "b"), [("1.png", 0), ("2.png", 1)])}
    assert _parts(tmp_path, {"a/1.png": b"", "b/2.png": b""} | beside) == expected


def test_tables_of_parts_lie_beside_or_in_them(tmp_path):
    files = below("train", FLAT) | below("val", FLAT) | below("test", FLAT)
    files |= {"train.csv": ROWS.encode(), "val/labels.csv": ROWS.replace("cat", "dog").encode()}
    files |= {"test.csv": b"image\n1.png\n", "sample_submission.csv": ROWS.encode()}
    layout = find_layout(find_store(pack(tmp_path, "folder", files)))
    assert layout.files("train").labels.tolist() == [0, 1, 1]
    assert layout.files("val").classes == ("dog",)
    with pytest.raises(DataError, match=r"test/ of .*folder holds 3 images and no folders of classes"):
        layout.files("test")


def test_table_beside_archives_tells_their_classes(tmp_path):
    pack(tmp_path, "set.zip", FLAT).rename(tmp_path / "train.zip")
    pack(tmp_path, "set.tar", {"9.png": b""}).rename(tmp_path / "test.tar")
    (tmp_path / "labels.csv").write_text(ROWS)
    layout = read_layout(tmp_path)
    assert layout.files("train").labels.tolist() == [0, 1, 1]
    with pytest.raises(DataError, match=r"no row of labels\.csv \(1\.png, \.\.\.\) names one of its images"):
        layout.files("test")


def test_table_that_contradicts_folders_is_asked_about_unless_it_is_the_answer(tmp_path):
    files = {"part1/1.png": b"", "part1/2.png": b"", "part2/3.png": b"", "meta.csv": ROWS.encode()}
    path = pack(tmp_path, "folder", files)
    with pytest.raises(DataError, match=r"folders part1, part2, but meta\.csv calls part1/1\.png cat: if the table is"):
        find_layout(find_store(path))
    (path / "meta.csv").rename(path / "labels.csv")
    images = find_layout(find_store(path)).files(None)
    assert (images.classes, images.notes) == (("cat", "dog"), ("classes come from labels.csv",))


def test_tables_of_parts_beside_one_folder_are_its_parts(tmp_path):
    """The test images must not be what is trained on because test.csv sorts before train.csv."""
    rows = {"train.csv": b"image,label\n1.png,cat\n2.png,dog\n", "test.csv": b"image,label\n3.png,dog\n"}
    files = below("images", FLAT | {"4.png": b""}) | rows
    assert _parts(tmp_path, files) == {
        "train": (("cat", "dog"), [("1.png", 0), ("2.png", 1)]),
        "test": (("dog",), [("3.png", 0)]),
    }
    layout = find_layout(find_store(pack(tmp_path, "folder", files)))
    assert "1 images are in no row of test.csv, train.csv: passed over" in layout.files("train").notes
    with pytest.raises(
        DataError, match=r"images/1\.png is in .*\.csv and in .*\.csv: an image can be of one part only"
    ):
        _parts(tmp_path, files | {"test.csv": b"image,label\n1.png,cat\n"})


def test_few_rows_of_a_table_that_decides_count_against_folders(tmp_path):
    files = {f"{name}/{index}.png": b"" for name in "ab" for index in range(3)}
    files["labels.csv"] = b"image,label\na/0.png,x\nb/0.png,y\n"
    images = find_layout(find_store(pack(tmp_path, "folder", files))).files(None)
    assert (images.classes, len(images)) == (("x", "y"), 2)
    assert "4 images are in no row of labels.csv: they are passed over" in images.notes
