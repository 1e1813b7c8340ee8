"""`torchrun --nproc-per-node 2 -m training fit`: two processes do what one does."""

import io
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from rich.console import Console

from models.networks import registry
from training.commands.fit import fit
from training.data import dataset, sources
from training.errors import RecipeError
from training.loop import scoring
from training.loop.checkpoint import read_checkpoint
from training.options import FitOptions

# Neither the batch nor what is held back, 400 and 401 of 4,000 images, divides by two as it should.
RECIPE = """
architecture = "mnist-residual"
epochs = 3
batch_size = 101
validation = 0.10025
precision = "fp32"
label_smoothing = 0.1
average = 0.9

[optimizer]
learning_rate = 0.03
momentum = 0.9
nesterov = true
weight_decay = 5e-4
decay = "weights"

[schedule]
kind = "one-cycle"
warmup = 0.3

[augmentation]
kind = "affine"
rotation = 10
shift = 1
"""


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("recipe") / "mine.toml"
    path.write_text(RECIPE)
    return path


def _start(recipe: Path, digits: str, output: Path, *options: str) -> subprocess.Popen[str]:
    """Two processes, by the real command."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    command += ["-m", "training", "fit", str(recipe), "--data", digits, "--output", str(output)]
    return subprocess.Popen(
        [*command, "--seed", "3", "--threads", "1", "--device", "cpu", *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "COLUMNS": "200"},
    )


def _finish(process: subprocess.Popen[str]) -> str:
    output, _ = process.communicate()
    assert process.returncode == 0, output
    return output


def _alone(recipe: Path, digits: str, output: Path, architecture: str | None = None) -> Path:
    options = FitOptions(
        recipe=str(recipe), arch=architecture, data=digits, output=output, threads=1, seed=3, device="cpu"
    )
    assert fit(options, Console(file=io.StringIO())) == 0
    return output


def _history(folder: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def two(recipe: Path, digits: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run of two processes, whose output is checked on the way."""
    folder = tmp_path_factory.mktemp("two") / "run"
    output = _finish(_start(recipe, digits, folder))
    assert [output.count(f"epoch   {epoch}  loss") for epoch in (1, 2, 3)] == [1, 1, 1]  # shown by one of them
    return folder


@pytest.mark.slow
def test_steps_are_those_of_one_process(recipe, digits, tmp_path):
    """Nine of them: what float noise makes of a hundred is seen below."""
    few = tmp_path / "few.toml"
    few.write_text(recipe.read_text().replace("batch_size = 101", "batch_size = 1_101"))
    _finish(_start(few, digits, tmp_path / "two"))
    one = _alone(few, digits, tmp_path / "one")
    for ours, theirs in zip(_history(tmp_path / "two"), _history(one), strict=True):
        for figure in ("loss", "validation_loss"):
            assert ours[figure] == pytest.approx(theirs[figure], rel=1e-5), figure
        assert ours["accuracy"] == pytest.approx(theirs["accuracy"], abs=1e-3)  # three images in doubt
    ours, theirs = (read_checkpoint(folder / "last.pt").weights for folder in (tmp_path / "two", one))
    for name, value in theirs.items():
        torch.testing.assert_close(ours[name], value, atol=1e-5, rtol=1e-4)


@pytest.mark.slow
def test_losses_of_a_whole_run_are_those_of_one_process(two, recipe, digits, tmp_path):
    one = _alone(recipe, digits, tmp_path / "one")
    for ours, theirs in zip(_history(two), _history(one), strict=True):
        for figure in ("loss", "validation_loss"):
            assert ours[figure] == pytest.approx(theirs[figure], rel=1e-3)
        assert ours["accuracy"] == pytest.approx(theirs["accuracy"], abs=2e-3)


def test_each_image_held_back_is_counted_once(two, digits):
    checkpoint = read_checkpoint(two / "last.pt")
    held_back = dataset.hold_out(sources.load(digits, Path(), "train"), 0.10025)[1]
    network = registry.build("mnist-residual")
    network.load_state_dict(checkpoint.weights)
    described = dataset.Normalization(checkpoint.preprocessing.mean, checkpoint.preprocessing.std)
    measured = scoring.score_network(network, held_back, described)
    assert len(held_back) == checkpoint.metrics["images"] == 401
    assert checkpoint.metrics["accuracy"] == measured.accuracy
    assert checkpoint.metrics["loss"] == pytest.approx(measured.loss, rel=1e-5)


@pytest.mark.slow
def test_signal_stops_both_and_resume_ends_with_the_same_bits(two, recipe, digits, tmp_path):
    process = _start(recipe, digits, tmp_path / "run")
    for line in process.stdout:
        if line.startswith("epoch   1"):
            break
    process.send_signal(signal.SIGTERM)
    output, _ = process.communicate()
    assert process.returncode != 0
    assert "stopped by SIGTERM" in output
    place = read_checkpoint(tmp_path / "run" / "last.pt").state["progress"]
    assert 1 <= place["epoch"] < 3
    _finish(_start(recipe, digits, tmp_path / "run", "--resume"))
    ours, theirs = (read_checkpoint(folder / "last.pt").weights for folder in (tmp_path / "run", two))
    assert all(torch.equal(ours[name], value) for name, value in theirs.items())


@pytest.mark.slow
def test_network_with_batch_norm_learns_as_well(recipe, digits, tmp_path):
    _finish(_start(recipe, digits, tmp_path / "run", "--arch", "mnist-residual-bn"))
    one = _alone(recipe, digits, tmp_path / "one", "mnist-residual-bn")
    ours, theirs = (_history(folder)[-1]["validation_accuracy"] for folder in (tmp_path / "run", one))
    assert ours > 0.9
    assert ours == pytest.approx(theirs, abs=0.03)


def test_synchronised_batch_norm_needs_gpus(recipe, digits, tmp_path):
    options = FitOptions(
        recipe=str(recipe), data=digits, output=tmp_path / "run", threads=1, device="cpu", sync_bn=True
    )
    with pytest.raises(RecipeError, match="--sync-bn is for several GPUs"):
        fit(options, Console(file=io.StringIO()))
