import dataclasses
import json
from io import StringIO
from pathlib import Path

import numpy as np
import pytest
import torch
from rich.console import Console
from typer.testing import CliRunner

from models.images.preprocessing import Preprocessing
from models.networks import registry
from tests.service.pictures import encode
from tests.training.folders import KINDS, pack
from training.cli import app
from training.commands.evaluate import evaluate, print_evaluation, served
from training.commands.export import Job, export_checkpoint
from training.data import sources
from training.data.dataset import ImageSet, hold_out
from training.errors import DataError
from training.loop.checkpoint import read_checkpoint, write_checkpoint


@pytest.fixture(scope="module")
def artifact_directory(digits_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    repository = tmp_path_factory.mktemp("repository")
    job = Job(
        checkpoint=digits_checkpoint,
        name="digits",
        version=1,
        repository=repository,
        data=None,
        data_root=repository,
        split="test",
    )
    return export_checkpoint(job).directory


def confusion_by_hand(checkpoint_path: Path, images: ImageSet) -> torch.Tensor:
    """Straight from the data set's arrays: no file format, no preprocessing, no engine."""
    checkpoint = read_checkpoint(checkpoint_path)
    network = registry.build("mnist-residual").eval()
    network.load_state_dict(checkpoint.weights)
    mean, std = checkpoint.preprocessing.mean[0], checkpoint.preprocessing.std[0]
    with torch.inference_mode():
        named = network((images.images / 255 - mean) / std).argmax(1)
    confusion = torch.zeros(10, 10, dtype=torch.int64)
    for true, taken in zip(images.labels.tolist(), named.tolist(), strict=True):
        confusion[true, taken] += 1
    return confusion


def test_both_forms_agree_with_a_count_by_hand(digits: str, digits_checkpoint: Path, artifact_directory: Path):
    expected = confusion_by_hand(digits_checkpoint, sources.load(digits, Path(), "test"))
    checkpoint = evaluate(digits_checkpoint, None, Path(), "test")
    artifact = evaluate(artifact_directory, None, Path(), "test")
    assert torch.equal(checkpoint.score.confusion, expected)
    assert torch.equal(artifact.score.confusion, expected)
    assert artifact.score.loss == pytest.approx(checkpoint.score.loss, rel=1e-5)


def test_validation_is_what_training_held_back(digits: str, digits_checkpoint: Path, artifact_directory: Path):
    _, held_back = hold_out(sources.load(digits, Path(), "train"), 0.1)
    expected = confusion_by_hand(digits_checkpoint, held_back)
    for path in (digits_checkpoint, artifact_directory):
        assert torch.equal(evaluate(path, None, Path(), "validation").score.confusion, expected)


def test_without_validation_images_there_is_nothing_to_hold_back(digits_checkpoint: Path, tmp_path: Path):
    path = tmp_path / "all.pt"
    write_checkpoint(path, dataclasses.replace(read_checkpoint(digits_checkpoint), recipe={"validation": 0.0}))
    with pytest.raises(DataError, match="held back no images"):
        evaluate(path, None, tmp_path, "validation")


def test_unknown_classes_are_an_error(digits_checkpoint: Path, tmp_path: Path):
    path = tmp_path / "eleven.npz"
    images, labels = np.zeros((11, 28, 28), np.uint8), np.arange(11)
    np.savez(path, x_train=images, y_train=labels, x_test=images, y_test=labels)
    with pytest.raises(DataError, match="the data has images of 10; known are 0, 1, 2"):
        evaluate(digits_checkpoint, str(path), tmp_path, "test")


def test_image_folder_gives_what_its_images_give_in_memory(digits: str, digits_checkpoint: Path, tmp_path: Path):
    """Files in another order, of some of the classes."""
    images = sources.load(digits, Path(), "test")
    chosen = images.take(torch.where(images.labels % 3 == 1)[0].flip(0))
    files = {
        f"{label}/{index}.png": encode(image[0].numpy())
        for index, (image, label) in enumerate(zip(chosen.images, chosen.labels.tolist(), strict=True))
    }
    expected = confusion_by_hand(digits_checkpoint, chosen)
    for kind in KINDS:
        path = str(pack(tmp_path, kind, files | {"1/broken.png": b"no image"}))
        evaluation = evaluate(digits_checkpoint, path, Path(), "test")
        assert torch.equal(evaluation.score.confusion, expected)
        assert evaluation.unreadable == ("1/broken.png",)
    console = Console(width=120, file=StringIO())
    print_evaluation(evaluation, console)
    assert "passed over, as no images: 1/broken.png" in console.file.getvalue()  # type: ignore[attr-defined]


def test_classes_that_were_trained_on_are_no_test_split(digits_checkpoint: Path, tmp_path: Path):
    folder = pack(tmp_path, "folder", {f"{label}/1.png": encode(np.zeros((28, 28), np.uint8)) for label in range(10)})
    path = tmp_path / "best.pt"
    write_checkpoint(path, dataclasses.replace(read_checkpoint(digits_checkpoint), data=str(folder)))
    with pytest.raises(DataError, match="no test split, it holds classes only, which are its training split"):
        evaluate(path, None, tmp_path, "test")
    with pytest.raises(DataError, match="no test split"):
        evaluate(path, str(folder / ".." / "folder"), tmp_path, "test")
    assert evaluate(digits_checkpoint, str(folder), tmp_path, "test").metrics["images"] == 10


@pytest.mark.parametrize("channels", [1, 3])
def test_pixels_of_the_right_size_arrive_unchanged(channels: int, preprocessing: Preprocessing):
    pixels = torch.randint(256, (5, channels, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    spec = dataclasses.replace(
        preprocessing, mode="L" if channels == 1 else "RGB", mean=(0.5,) * channels, std=(0.5,) * channels
    )
    batches = list(served(ImageSet(pixels, torch.arange(5), tuple("abcde")), spec, batch=2))
    assert [labels.tolist() for _, labels in batches] == [[0, 1], [2, 3], [4]]
    np.testing.assert_array_equal(np.concatenate([images for images, _ in batches]), pixels.permute(0, 2, 3, 1))


@pytest.fixture
def preprocessing() -> Preprocessing:
    return Preprocessing(
        mode="L",
        height=8,
        width=8,
        exif_transpose=True,
        background=(255, 255, 255),
        sixteen_bit="high_byte",
        polarity="as_is",
        resize=8,
        crop="center",
        interpolation="bilinear",
        antialias=True,
        draft=False,
        mean=(0.5,),
        std=(0.5,),
    )


def test_json_holds_accuracy_by_class_and_confusion(digits: str, artifact_directory: Path):
    result = CliRunner().invoke(app, ["evaluate", str(artifact_directory), "--split", "val", "--json"])
    assert result.exit_code == 0, result.output
    document = json.loads(result.stdout)
    confusion = np.array(document["confusion"])
    assert (document["model"], document["data"], document["split"]) == ("digits/1", digits, "validation")
    assert document["images"] == confusion.sum() == 400
    assert document["accuracy"] == pytest.approx(confusion.trace() / 400)
    assert document["standard_error"] == pytest.approx(np.std(np.arange(400) < confusion.trace()) / 20)
    shares = [row[index] / row.sum() for index, row in enumerate(confusion)]
    assert list(document["by_class"].values()) == pytest.approx(shares)


def test_tables_hold_accuracy_by_class_and_confusion(digits_checkpoint: Path, tmp_path: Path):
    evaluation = evaluate(digits_checkpoint, None, tmp_path, "test")
    console = Console(width=120, file=StringIO())
    print_evaluation(evaluation, console)
    lines = console.file.getvalue().splitlines()  # type: ignore[attr-defined]
    assert f"accuracy {evaluation.score.accuracy:.2%}" in lines[0]
    for label, row in enumerate(evaluation.score.confusion.tolist()):
        (line,) = (line.split() for line in lines if line.split()[:1] == [str(label)])
        assert line[1] == f"{row[label]:.2f}%"  # of 100 digits
        assert line[2:] == [str(count) if count else "·" for count in row]


def test_a_broken_artifact_is_told(tmp_path: Path):
    (tmp_path / "digits" / "1").mkdir(parents=True)
    result = CliRunner().invoke(app, ["evaluate", str(tmp_path / "digits" / "1")])
    assert result.exit_code == 1
    assert "SHA256SUMS is missing" in result.stderr
