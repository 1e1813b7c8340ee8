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


@pytest.mark.parametrize(
    "text",
    [
        "filename, cat, dog\n1.png, 1, 0\n2.png, 0, 1\n",
        "image,dog,UNK,cat\n1.png,0.0,0.0,1.0\n2.png,1.0,0.0,0.0\n",
    ],
    ids=["Roboflow", "ISIC"],
)
def test_tables_with_a_column_for_each_class(text):
    assert read_table("_classes.csv", text.encode()).labels == LABELS


@pytest.mark.parametrize(
    "text", ["image,a,b\n1.png,1,1\n2.png,0,1\n", "image,a,b\n1.png,0,0\n", "image,width,height\n1.png,1,7\n"]
)
def test_columns_of_several_classes_or_of_other_numbers_are_no_classes(text):
    assert read_table("x.csv", text.encode()) is None


@pytest.mark.parametrize(
    "text",
    [
        "TRAIN,1.png,cat\nVALIDATION,2.png,dog\n",
        "image,label,split\n1.png,cat,train\n2.png,dog,val\n",
        "class id,filepaths,labels,data set\n0,1.png,cat,train\n1,2.png,dog,valid\n",
    ],
    ids=["AutoML", "split", "data set"],
)
def test_a_column_may_tell_the_part(text):
    table = read_table("x.csv", text.encode())
    assert (table.labels, table.parts) == (LABELS, {"1.png": "train", "2.png": "val"})


@pytest.mark.parametrize("root", ["/home/me/data", "C:\\Users\\me\\data", "gs://bucket", "https://example.com/set"])
@pytest.mark.parametrize("folder", ["", "a/"])
def test_paths_of_another_machine_are_found_by_their_ends(root, folder):
    entries = [Entry(f"{folder}{number}.png", 1, number) for number in (1, 2)]
    table = read_table("x.csv", f"path,label\n{root}/{folder}1.png,cat\n{root}/{folder}2.png,dog\n".encode())
    assert table.match(entries) == list(zip(entries, ("cat", "dog"), strict=True))


def test_paths_of_another_machine_that_would_be_one_file_here_are_none():
    table = read_table("x.csv", b"path,label\n/data/train/1.png,cat\n/data/val/1.png,dog\n")
    assert table.match([Entry("1.png", 1, 0)]) == []
    assert table.match([Entry("val/1.png", 1, 0)]) == [(Entry("val/1.png", 1, 0), "dog")]


@pytest.mark.parametrize(
    ("encoding", "label"),
    [
        ("latin-1", "café"),
        ("cp1252", "œillet’s"),
        ("utf-16", "日本, å"),  # whose bytes are a comma and a Latin letter, among others
        ("utf-16-be", "\ufeff日本"),
    ],
)
def test_tables_in_other_encodings_than_utf8(encoding, label):
    begin = "\ufeff" if label.startswith("\ufeff") else ""
    label = label.removeprefix(begin)
    table = read_table("x.csv", f'{begin}image,label\n1.png,"{label}"\n'.encode(encoding))
    assert table.labels == {"1.png": label}


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
