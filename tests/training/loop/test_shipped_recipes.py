"""Each recipe that ships does what it says for an epoch."""

import io
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from tests.training.folders import COLOURS, pack, pictures
from tests.training.recipe_files import write_recipe
from tests.training.run_folder import read_history
from training.commands.fit import fit
from training.loop.augment import ResizedCrop
from training.loop.checkpoint import read_checkpoint
from training.loop.recipe import Recipe, load_recipe, shipped
from training.options import FitOptions


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return pack(tmp_path_factory.mktemp("data"), "folder", pictures(5, (40, 34)))


def _small(recipe: Recipe) -> Recipe:
    """The recipe for small pictures, if it is for large ones: ResNet-152 takes seconds for each."""
    if not isinstance(recipe.augmentation, ResizedCrop):
        return recipe
    return replace(recipe, image_size=40, crop=32, augmentation=replace(recipe.augmentation, size=24))


@pytest.mark.parametrize("name", shipped())
def test_recipe_trains_for_an_epoch(name, folder, tmp_path):
    """Without images held back: the statistics that one step gives batch norm are no use to a hundred layers."""
    recipe = _small(replace(load_recipe(name), epochs=1, validation=0.0, batch_size=12))
    path = write_recipe(tmp_path / "small.toml", recipe)
    options = FitOptions(recipe=path, data=str(folder), output=tmp_path / "run", threads=1)
    assert fit(options, Console(file=io.StringIO())) == 0
    (row,) = read_history(tmp_path / "run")
    assert row["images_per_second"] == pytest.approx(12 / row["seconds"])
    checkpoint = read_checkpoint(tmp_path / "run" / "last.pt")
    assert (checkpoint.architecture, checkpoint.labels) == (recipe.architecture, tuple(sorted(COLOURS)))
    shape = (28, 28, 1) if "mnist" in name else (32, 32, 3)
    assert checkpoint.preprocessing.shape == shape
    shutil.rmtree(tmp_path / "run")  # of ResNet-152 it takes a gigabyte
