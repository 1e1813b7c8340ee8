import numpy as np
import pytest
from PIL import Image

from tests.training.command import resnet_train
from tests.training.folders import below, pack, picture, pictures


def test_tells_what_fit_would_read_on_80_columns(tmp_path):
    files = below("Training", pictures(3, (90, 60))) | below("valid", pictures(1, (50, 80), "JPEG", 1))
    files |= {"Testing/1.png": picture("red", 9), "Training/red/note.txt": b"x", "runs/x/curves.png": b""}
    files |= {"valid/red/same.png": files["Training/red/0.png"], "Training/[b]x/1.png": picture("red", 77)}
    folder = pack(tmp_path, "folder", files)
    (folder / "Training" / "cactus").mkdir()
    ended = resnet_train("inspect", folder, "--output", tmp_path / "samples.png")
    assert (ended.code, ended.errors) == (0, "")
    words = [line.split() for line in ended.output.splitlines()]
    assert max(map(len, ended.output.splitlines())) <= 80
    for row in (
        ["train", "10", "4", "32×32", "90×60", "90×60", "RGB", "10"],
        ["val", "4", "3", "50×80", "50×80", "90×60", "RGB", "4"],
        ["test", "1", "none", "32×32", "32×32", "32×32", "RGB", "1"],
        ["[b]x", "1", "0"],
        ["red", "3", "2"],
    ):
        assert row in words
    told = " ".join(ended.output.split())
    for remark in (
        "Training/cactus/ is empty: it is no class",
        "runs/ is passed over",
        "no image of [b]x",
        "nothing can be measured on the test images",
        "1 file cannot be read as an image: Training/red/note.txt: not a PNG",
        "Training/red/0.png = valid/red/same.png",
    ):
        assert remark in told
    pixels = np.asarray(Image.open(tmp_path / "samples.png").convert("RGB")).reshape(-1, 3)
    for colour in ((40, 40, 220), (40, 200, 40), (220, 40, 40)):
        assert (np.abs(pixels.astype(int) - colour).max(1) < 40).sum() > 1000


@pytest.mark.parametrize(("bits", "told"), [(12, True), (16, False)])
def test_pictures_that_fill_few_of_their_16_bits_are_told(tmp_path, bits, told):
    levels = np.linspace(0, 2**bits - 1, 64 * 64).astype(np.uint16).reshape(64, 64)
    for name in "ab":
        (tmp_path / "scans" / name).mkdir(parents=True)
        Image.fromarray(levels).save(tmp_path / "scans" / name / "1.png")
    ended = resnet_train("inspect", tmp_path / "scans", "--output", tmp_path / "samples.png")
    remark = "2 grey pictures of 16 bits use less than a quarter of the range: scale them to 16 bits first"
    assert (remark in " ".join(ended.output.split())) == told


def test_a_hundred_classes_are_told_by_those_with_the_fewest_images(tmp_path):
    content = picture("red", 0, (8, 8))
    files = {f"species_{index:03}/{copy}.png": content for index in range(100) for copy in range(1 + (index != 57))}
    ended = resnet_train("inspect", pack(tmp_path, "folder", files), "--output", tmp_path / "samples.png")
    words = [line.split() for line in ended.output.splitlines()]
    assert words.index(["species_057", "1"]) < words.index(["species_000", "2"])
    assert ["and", "60", "more", "to", "2"] in words


def test_pictures_without_classes_have_no_table_of_them(tmp_path):
    folder = pack(tmp_path, "folder", {f"{name}.png": picture("red", 7) for name in "ab"})
    ended = resnet_train("inspect", folder, "--output", tmp_path / "samples.png")
    assert ["class"] not in [line.split() for line in ended.output.splitlines()]
    assert "make one folder of images for each class" in " ".join(ended.output.split())


@pytest.mark.parametrize(("name", "told"), [("absent", "is no folder, and no .tar"), ("note.txt", "is no folder")])
def test_anything_else_is_refused(tmp_path, name, told):
    (tmp_path / "note.txt").touch()
    ended = resnet_train("inspect", tmp_path / name)
    assert (ended.code, ended.output) == (1, "")
    assert told in ended.errors
