"""`torchrun --nproc-per-node N -m training fit`: several processes do what one does."""

import io
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from rich.console import Console

from models.networks import registry
from tests.training.acting import KILL, acting
from tests.training.run_folder import read_history
from training.commands.fit import fit
from training.data import dataset, sources
from training.errors import RecipeError
from training.loop import scoring
from training.loop.checkpoint import read_checkpoint
from training.options import FitOptions

# Neither the batch nor what is held back, 401 of 4,000 images, divides by two or three.
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


def _torchrun(processes: int) -> list[str]:
    return [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]


def _start(
    recipe: Path,
    digits: str,
    output: Path,
    *options: str,
    processes: int = 2,
    program: Sequence[str] = ("-m", "training"),
) -> subprocess.Popen[str]:
    """Several processes, by the real command."""
    command = _torchrun(processes)
    command += [*program, "fit", str(recipe), "--data", digits, "--output", str(output)]
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


@pytest.fixture(scope="module")
def three(recipe: Path, digits: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run of three processes, whose output is checked on the way."""
    folder = tmp_path_factory.mktemp("three") / "run"
    output = _finish(_start(recipe, digits, folder, processes=3))
    assert [output.count(f"epoch   {epoch}  loss") for epoch in (1, 2, 3)] == [1, 1, 1]  # shown by one of them
    return folder


@pytest.mark.slow
def test_steps_are_those_of_one_process(recipe, digits, tmp_path):
    """Nine of them: rounding makes more of a hundred, see below."""
    few = tmp_path / "few.toml"
    few.write_text(recipe.read_text().replace("batch_size = 101", "batch_size = 1_101"))
    _finish(_start(few, digits, tmp_path / "two"))
    one = _alone(few, digits, tmp_path / "one")
    for ours, theirs in zip(read_history(tmp_path / "two"), read_history(one), strict=True):
        for figure in ("loss", "validation_loss"):
            assert ours[figure] == pytest.approx(theirs[figure], rel=1e-5), figure
        assert ours["accuracy"] == pytest.approx(theirs["accuracy"], abs=1e-3)  # three images in doubt
    ours, theirs = (read_checkpoint(folder / "last.pt").weights for folder in (tmp_path / "two", one))
    for name, value in theirs.items():
        torch.testing.assert_close(ours[name], value, atol=1e-5, rtol=1e-4)


@pytest.mark.slow
def test_losses_of_a_whole_run_are_those_of_one_process(three, recipe, digits, tmp_path):
    one = _alone(recipe, digits, tmp_path / "one")
    for ours, theirs in zip(read_history(three), read_history(one), strict=True):
        for figure in ("loss", "validation_loss"):
            assert ours[figure] == pytest.approx(theirs[figure], rel=1e-2)
        assert ours["accuracy"] == pytest.approx(theirs["accuracy"], abs=5e-3)


def test_each_image_held_back_is_counted_once(three, digits):
    checkpoint = read_checkpoint(three / "last.pt")
    held_back = dataset.hold_out(sources.load(digits, Path(), "train"), 0.10025)[1]
    network = registry.build("mnist-residual")
    network.load_state_dict(checkpoint.weights)
    described = dataset.Normalization(checkpoint.preprocessing.mean, checkpoint.preprocessing.std)
    measured = scoring.score_network(network, held_back, described)
    assert len(held_back) == checkpoint.metrics["images"] == 401
    assert checkpoint.metrics["accuracy"] == measured.accuracy
    assert checkpoint.metrics["loss"] == pytest.approx(measured.loss, rel=1e-5)


@pytest.mark.slow
def test_signal_stops_all_and_resume_ends_with_the_same_bits(three, recipe, digits, tmp_path):
    """Of three processes: the sum of two is the same in any order, that of three is not."""
    program = acting(tmp_path, 1, 20, "os.kill(os.getppid(), signal.SIGTERM)")  # torchrun hands it on to all
    process = _start(recipe, digits, tmp_path / "run", processes=3, program=program)
    output, _ = process.communicate()
    assert process.returncode != 0
    assert "stopped by SIGTERM" in output
    place = read_checkpoint(tmp_path / "run" / "last.pt").state["progress"]
    assert (place["epoch"], place["step"]) >= (1, 20)
    _finish(_start(recipe, digits, tmp_path / "run", "--resume", processes=3))
    ours, theirs = (read_checkpoint(folder / "last.pt").weights for folder in (tmp_path / "run", three))
    assert all(torch.equal(ours[name], value) for name, value in theirs.items())


def test_a_process_that_is_killed_is_told_by_the_others_in_a_line(recipe, digits, tmp_path):
    process = _start(recipe, digits, tmp_path / "run", program=acting(tmp_path, 1, 20, KILL))
    output, _ = process.communicate()
    assert process.returncode != 0
    assert "error: another process of the run has ended" in output
    assert "[rank1]" not in output  # before each line of a traceback
    assert read_checkpoint(tmp_path / "run" / "last.pt").state["progress"]["epoch"] == 1


@pytest.mark.slow
def test_network_with_batch_norm_learns_as_well(recipe, digits, tmp_path):
    _finish(_start(recipe, digits, tmp_path / "run", "--arch", "mnist-residual-bn"))
    one = _alone(recipe, digits, tmp_path / "one", "mnist-residual-bn")
    ours, theirs = (read_history(folder)[-1]["validation_accuracy"] for folder in (tmp_path / "run", one))
    assert ours > 0.9
    assert ours == pytest.approx(theirs, abs=0.03)


def test_synchronised_batch_norm_needs_gpus(recipe, digits, tmp_path):
    options = FitOptions(
        recipe=str(recipe), data=digits, output=tmp_path / "run", threads=1, device="cpu", sync_bn=True
    )
    with pytest.raises(RecipeError, match="--sync-bn is for several GPUs"):
        fit(options, Console(file=io.StringIO()))


BOTH_EXCHANGES = """
import torch
from torch import nn
from training.loop.distributed import joined, summing

def gradients(network, forward, inputs):
    network.zero_grad()
    forward(inputs).square().sum().backward()
    return torch.cat([parameter.grad.flatten() for parameter in network.parameters()])

torch.manual_seed(0)
network, inputs = nn.Sequential(nn.Linear(4, 3), nn.Tanh(), nn.Linear(3, 2)), torch.randn(9, 4)
with joined(torch.device("cpu")) as processes:
    whole = gradients(network, network, inputs)
    gradients(network, network, processes.part(inputs))
    processes.sum_gradients(network)
    ours = torch.cat([parameter.grad.flatten() for parameter in network.parameters()])
    torch.testing.assert_close(ours, whole)
    torch.testing.assert_close(gradients(network, summing(network), processes.part(inputs)), whole)
    if processes.leads:
        print("the same")
"""


def test_gradients_of_the_parts_add_up_to_those_of_the_whole_on_cpus_and_as_gpus_exchange_them(tmp_path):
    (script := tmp_path / "both.py").write_text(BOTH_EXCHANGES)
    ended = subprocess.run([*_torchrun(2), script], capture_output=True, text=True, check=False)
    assert ended.stdout.splitlines() == ["the same"], ended.stderr
