"""Fine-tuning: a trained network goes on with other images."""

import io
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import safetensors.torch
import torch
from rich.console import Console

from models.artifact.artifact import read_artifact
from tests.training.command import resnet_train
from tests.training.folders import COLOURS, pack, pictures
from tests.training.recipe_files import write_recipe
from training.commands.fit import fit
from training.errors import CheckpointError, RecipeError, WeightsError
from training.loop.checkpoint import read_checkpoint
from training.loop.pretrained import read_pretrained
from training.loop.recipe import Recipe, load_recipe
from training.options import FitOptions

COLOUR_NAMES = tuple(sorted(COLOURS))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return pack(tmp_path_factory.mktemp("data"), "folder", pictures(12))


@pytest.fixture
def artifact(networks: Path) -> Path:
    """ResNet-20, option B, seven classes, untrained."""
    return networks / "resnet20" / "1"


@pytest.fixture
def recipe() -> Recipe:
    """Written for another network, at a rate at which a body that may move does so."""
    recipe = replace(load_recipe("resnet110-paper"), epochs=2, batch_size=8, validation=0.2, precision="fp32")
    return replace(recipe, optimizer=replace(recipe.optimizer, learning_rate=0.05))


@pytest.fixture
def options(recipe: Recipe, folder: Path, artifact: Path, tmp_path: Path) -> FitOptions:
    path = write_recipe(tmp_path / "mine.toml", recipe)
    return FitOptions(
        recipe=path, data=str(folder), output=tmp_path / "run", threads=1, seed=3, start=artifact, body_rate=0.1
    )


def _changed(options: FitOptions, **changes: object) -> FitOptions:
    return options.model_copy(update=changes)


def _fit(options: FitOptions) -> dict[str, torch.Tensor]:
    assert fit(options, Console(file=io.StringIO())) == 0
    return read_checkpoint(options.folder / "last.pt").weights


def _frozen(options: FitOptions) -> FitOptions:
    return _changed(options, body_rate=None, freeze=True)


def _at_rate(learning_rate: float, recipe: Recipe, folder: Path) -> str:
    """The recipe at another learning rate, as a file."""
    changed = replace(recipe, optimizer=replace(recipe.optimizer, learning_rate=learning_rate))
    return write_recipe(folder / "other.toml", changed)


def test_frozen_body_of_an_artifact_keeps_every_bit_under_a_new_head(options, artifact):
    released = safetensors.torch.load(read_artifact(artifact).weights)
    weights = _fit(_frozen(options))
    assert weights.keys() == released.keys()
    for name, value in weights.items():
        if not name.startswith("fc."):
            assert torch.equal(value, released[name]), name  # also the statistics and counters of batch norm
    assert weights["fc.weight"].shape == (3, 64)


def test_body_that_is_not_frozen_learns(options, artifact):
    released = safetensors.torch.load(read_artifact(artifact).weights)
    weights = _fit(options)
    assert not torch.equal(weights["conv1.weight"], released["conv1.weight"])
    assert weights["bn1.num_batches_tracked"] == released["bn1.num_batches_tracked"] + 2 * 3


def test_network_and_normalisation_are_the_sources(options, artifact):
    _fit(options)
    checkpoint, metadata = read_checkpoint(options.folder / "last.pt"), read_artifact(artifact).metadata
    assert (checkpoint.architecture, checkpoint.arguments) == ("resnet20", {"shortcut": "B"})
    assert checkpoint.labels == COLOUR_NAMES
    described, source = checkpoint.preprocessing, metadata.preprocessing
    assert (described.mean, described.std, described.shape) == (source.mean, source.std, source.shape)


def test_frozen_body_teaches_a_head_the_colours(options, recipe, tmp_path):
    """What an untrained body sees is enough to tell three colours apart."""
    path = _at_rate(0.3, recipe, tmp_path)
    _fit(_changed(_frozen(options), recipe=path, epochs=25))
    assert read_checkpoint(options.folder / "best.pt").metrics["accuracy"] > 0.7  # by chance: a third


def test_checkpoint_with_the_same_labels_keeps_its_head(options, recipe, tmp_path):
    first = _fit(options)
    path, start = _at_rate(1e-30, recipe, tmp_path), options.folder / "last.pt"
    weights = _fit(_changed(options, recipe=path, start=start, epochs=1, output=tmp_path / "on"))
    assert torch.equal(weights["fc.weight"], first["fc.weight"])


@pytest.mark.parametrize("frozen", [False, True])
def test_resumed_run_ends_with_the_same_bits_without_its_source(options, artifact, tmp_path, frozen):
    options = _frozen(options) if frozen else options
    whole = _fit(_changed(options, output=tmp_path / "whole"))
    moved = tmp_path / "moved" / "resnet20" / "1"
    shutil.copytree(artifact, moved)
    options = _changed(options, start=moved)
    with pytest.raises(Stopped):
        fit(options, StopsAfterAnEpoch(file=io.StringIO()), save_seconds=0)
    shutil.rmtree(moved)
    assert read_checkpoint(options.folder / "last.pt").state["progress"]["epoch"] == 1
    weights = _fit(_changed(options, resume=True))
    assert all(torch.equal(weights[name], value) for name, value in whole.items())


class Stopped(Exception):
    """As if the process had died."""


class StopsAfterAnEpoch(Console):
    def print(self, *objects: object, **options: object) -> None:
        if objects and str(objects[0]).startswith("epoch"):
            raise Stopped
        super().print(*objects, **options)


def test_run_with_another_start_is_not_resumed(options):
    _fit(options)
    other = _changed(options, resume=True, body_rate=0.5)
    with pytest.raises(CheckpointError, match=r"body_rate: it was 0\.1, now it is 0\.5"):
        fit(other, Console(file=io.StringIO()))


def test_artifact_without_weights_is_told(artifact, tmp_path):
    graph_only = tmp_path / "resnet20" / "1"
    shutil.copytree(artifact, graph_only)
    (graph_only / "model.safetensors").unlink()
    sums = (graph_only / "SHA256SUMS").read_text().splitlines(keepends=True)
    (graph_only / "SHA256SUMS").write_text("".join(line for line in sums if "model.onnx" in line))
    with pytest.raises(WeightsError, match=r"holds no model\.safetensors"):
        read_pretrained(graph_only)


def test_nothing_to_start_from_is_told(tmp_path):
    with pytest.raises(CheckpointError, match=r"none\.pt cannot be read"):
        read_pretrained(tmp_path / "none.pt")
    with pytest.raises(WeightsError, match="nothing to start from"):
        read_pretrained(tmp_path)


@pytest.mark.parametrize("settings", [(None, 0.1, False), (None, None, True)])
def test_fine_tuning_without_a_start_is_told(recipe, settings):
    with pytest.raises(RecipeError, match="give --from"):
        recipe.fine_tuned(*settings)


def test_command_fine_tunes_and_refuses_another_network(folder, artifact, tmp_path):
    command = ["fit", "resnet20-fast", "--data", folder, "--from", artifact, "--output", tmp_path / "run"]
    command += ["--epochs", "1", "--threads", "1", "--freeze"]
    refused = resnet_train(*command, "--arch", "resnet32")
    assert refused.code == 2
    assert "leave out --arch" in refused.errors
    result = resnet_train(*command)
    assert result.code == 0, result.errors
    settings = read_checkpoint(tmp_path / "run" / "last.pt").recipe
    assert (settings["start"], settings["freeze"], settings["architecture"]) == (str(artifact), True, "resnet20")
