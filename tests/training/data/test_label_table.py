import pytest

from training.data.archives import Entry
from training.data.label_table import is_table, read_table
from training.errors import DataError

LABELS = {"1.png": "cat", "2.png": "dog"}


@pytest.mark.parametrize(
    "text",
    [
        "image,label\n1.png,cat\n2.png,dog\n",
        "label,image\ncat,1.png\ndog,2.png\n",
        "filename;width;class\n1.png;10;cat\n2.png;12;dog\n",
        "file_name\tcategory\n1.png\tcat\n2.png\tdog\n",
        "ImageName,Target\n1.png,cat\n2.png,dog\n",
        "id,image_path,label,label_name\n7,1.png,0,cat\n8,2.png,1,dog\n",
        "image,what\n1.png,cat\n2.png,dog\n",
        "1.png,cat\n2.png,dog\n",
        "\ufeffimage,label\r\n1.png,cat\r\n\r\n2.png, dog\r\n3.png,\r\n",
        'image,label\n"1.png","cat"\n2.png,dog\n2.png,dog\n',
    ],
)
def test_tables_as_people_write_them(text):
    table = read_table("labels.csv", text.encode())
    assert table is not None
    assert table.labels == LABELS


def test_table_in_latin1():
    assert read_table("x.csv", "image,label\n1.png,café\n".encode("latin-1")).labels == {"1.png": "café"}


@pytest.mark.parametrize("text", ["", "\n", "a,b,c\n1,2,3\n", "image\n1.png\n", "id,width\n", "x" * 200_000, "\0\0,\0"])
def test_other_tables_are_none_of_labels(text):
    table = read_table("x.csv", text.encode())
    assert table is None or not table.labels


def test_image_with_two_classes_is_refused():
    with pytest.raises(DataError, match=r"x\.csv calls 1\.png cat and dog: give each image one row and one class"):
        read_table("x.csv", b"image,label\n1.png,cat\n1.png,dog\n")


@pytest.mark.parametrize(
    ("row", "found"),
    [
        ("a/1.png", ["a/1.png"]),
        ("./a/1.png", ["a/1.png"]),
        ("a\\1.png", ["a/1.png"]),
        ("a/1", ["a/1.png"]),
        ("2", ["b/2.jpg"]),
        ("2.jpg", ["b/2.jpg"]),
        ("c/2.jpg", []),
        ("absent.png", []),
    ],
)
def test_rows_name_files_with_or_without_folders_and_ending(row, found):
    entries = [Entry(name, 1, place) for place, name in enumerate(["a/1.png", "b/1.png", "b/2.jpg"])]
    table = read_table("x.csv", f"image,label\n{row},cat\n".encode())
    assert [(entry.name, label) for entry, label in table.match(entries)] == [(name, "cat") for name in found]


def test_row_that_fits_two_files_is_refused():
    entries = [Entry(name, 1, place) for place, name in enumerate(["a/1.png", "b/1.png"])]
    with pytest.raises(DataError, match=r"x\.csv names 1\.png, which may be a/1\.png and b/1\.png: give the folder"):
        read_table("x.csv", b"image,label\n1.png,cat\n").match(entries)


@pytest.mark.parametrize(
    ("name", "is_one"),
    [("labels.csv", True), ("TRAIN.CSV", True), ("a.tsv", True), ("sample_submission.csv", False), ("a.txt", False)],
)
def test_forms_of_competitions_are_no_labels(name, is_one):
    assert is_table(name) == is_one
