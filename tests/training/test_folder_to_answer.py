"""From a folder of photographs to an answered request."""

import io
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import httpx
import numpy as np
import pytest
from rich.console import Console

from models.artifact.artifact import read_artifact
from models.engines.loader import load_engine
from models.images.decoder import MAX_PIXELS, Preprocessor
from tests.service.served import Served
from tests.training.folders import COLOURS, below, pack, picture, pictures
from tests.training.recipe_files import write_recipe
from training.commands.export import export_checkpoint
from training.commands.fit import fit
from training.loop.checkpoint import read_checkpoint
from training.loop.recipe import load_recipe
from training.options import ExportOptions, FitOptions


def _train(*arguments: str | Path) -> str:
    command = [sys.executable, "-m", "training", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
def test_imagenets_network_learns_small_pictures_in_an_epoch_and_serves_photographs(tmp_path: Path):
    """The recipe cifar10-resnet18 on pictures of three colours, which an epoch is enough to tell apart."""
    files = below("train", pictures(160, (36, 32))) | below("test", pictures(20, (70, 50), "JPEG", seed=1))
    data, repository = pack(tmp_path, "set.zip", files), tmp_path / "models"
    recipe = Path(__file__).parents[2] / "training" / "recipes" / "cifar10-resnet18.toml"
    small = tmp_path / "small.toml"
    settings = {"batch_size = 128": "batch_size = 8", "learning_rate = 0.1": "learning_rate = 0.02", "0.999": "0.5"}
    text = recipe.read_text()
    for theirs, ours in settings.items():
        assert theirs in text
        text = text.replace(theirs, ours)
    small.write_text(text)
    _train("fit", small, "--data", data, "--epochs", 1, "--output", tmp_path / "run", "--threads", 1)
    checkpoint = tmp_path / "run" / "last.pt"
    _train("export", checkpoint, "--name", "colours", "--repository", repository, "--data", data, "--split", "test")
    directory = repository / "colours" / "1"
    measured = json.loads(_train("evaluate", directory, "--data", data, "--json"))
    assert (measured["split"], measured["images"]) == ("test", 60)
    assert measured["accuracy"] > 0.9

    artifact = read_artifact(directory)
    preprocessing = artifact.metadata.preprocessing
    assert (artifact.labels, artifact.input_shape) == (tuple(sorted(COLOURS)), (32, 32, 3))
    assert (preprocessing.mode, preprocessing.resize, preprocessing.polarity) == ("RGB", 32, "as_is")
    assert artifact.metadata.metrics["accuracy"] == measured["accuracy"]
    photos = [picture(name, 7, (640, 480), "JPEG") for name in COLOURS]
    logits = load_engine(artifact).run(np.stack([Preprocessor(preprocessing, MAX_PIXELS)(photo) for photo in photos]))
    with Served("--model-repository", repository) as served:
        for photo, row in zip(photos, logits, strict=True):
            answer = httpx.post(f"{served.ready().url}/predict", content=photo, timeout=60).json()
            found = {each["label"]: each["probability"] for each in answer["predictions"]}
            expected = np.exp(row - row.max()) / np.exp(row - row.max()).sum()
            assert found == pytest.approx(dict(zip(artifact.labels, expected.tolist(), strict=True)), abs=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "resize"), [("resnet18-imagenet", 256), ("resnet50-imagenet-232", 232)])
def test_imagenet_recipe_ends_in_a_model_that_sees_photographs_as_torchvisions_do(
    name: str, resize: int, tmp_path: Path
) -> None:
    """ResNet-18 at its own size; what was measured on the images held back, the served path finds again."""
    recipe = load_recipe(name)
    recipe = replace(recipe, architecture="resnet18", epochs=1, batch_size=6, validation=0.25)
    recipe = replace(recipe, optimizer=replace(recipe.optimizer, learning_rate=0.01))
    data = pack(tmp_path, "folder", pictures(8, (330, 280), "JPEG"))
    path, run = write_recipe(tmp_path / "small.toml", recipe), tmp_path / "run"
    assert fit(FitOptions(recipe=path, data=str(data), output=run, threads=1), Console(file=io.StringIO())) == 0
    last = run / "last.pt"
    exported = export_checkpoint(
        ExportOptions(checkpoint=last, name="photos", repository=tmp_path / "models", split="val")
    )
    held_back = read_checkpoint(last).metrics
    figures = {key: held_back[key] for key in ("images", "accuracy", "loss")}
    assert {key: exported.metrics[key] for key in figures} == pytest.approx(figures, rel=1e-3)
    artifact = read_artifact(exported.directory)
    preprocessing = artifact.metadata.preprocessing
    assert (preprocessing.resize, preprocessing.crop, artifact.input_shape) == (resize, "center", (224, 224, 3))
    assert artifact.metadata.recipe["crop"] == 224
