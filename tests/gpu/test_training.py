"""Training on the GPU does what training on the CPU does."""

import io
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from tests.training.folders import pack, pictures
from tests.training.recipe_files import write_recipe
from tests.training.run_folder import read_history
from training.commands.fit import fit
from training.loop.checkpoint import read_checkpoint
from training.loop.recipe import load_recipe
from training.options import FitOptions


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return pack(tmp_path_factory.mktemp("data"), "folder", pictures(12))


def _options(folder: Path, output: Path, device: str, precision: str) -> FitOptions:
    recipe = replace(load_recipe("resnet20-fast"), batch_size=10, validation=0.2)
    path = write_recipe(output.parent / "small.toml", recipe)
    return FitOptions(
        recipe=path, data=str(folder), output=output, epochs=2, threads=1, device=device, precision=precision
    )


def _history(options: FitOptions) -> list[dict[str, float]]:
    assert fit(options, Console(file=io.StringIO())) == 0
    return read_history(options.folder)


@pytest.mark.parametrize(("precision", "within"), [("fp32", 0.02), ("bf16", 0.1)])
def test_losses_are_those_of_the_cpu(folder, tmp_path, precision, within):
    ours = _history(_options(folder, tmp_path / "gpu", "cuda", precision))
    theirs = _history(_options(folder, tmp_path / "cpu", "cpu", "fp32"))
    assert [row["loss"] for row in ours] == pytest.approx([row["loss"] for row in theirs], rel=within)


def test_checkpoint_is_read_without_a_gpu_and_the_run_goes_on(folder, tmp_path):
    options = _options(folder, tmp_path / "run", "cuda", "auto")
    _history(options)
    checkpoint = read_checkpoint(options.folder / "last.pt")
    assert {value.device.type for value in checkpoint.weights.values()} == {"cpu"}
    assert fit(options.model_copy(update={"resume": True}), Console(file=io.StringIO())) == 0
