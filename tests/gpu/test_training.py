"""Training on the GPU does what training on the CPU does."""

import io
import json
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from tests.training.folders import pack, pictures
from training.commands.fit import Job, fit
from training.loop.checkpoint import read_checkpoint
from training.loop.recipe import load_recipe


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return pack(tmp_path_factory.mktemp("data"), "folder", pictures(12))


def _history(folder: Path, output: Path, device: str, precision: str) -> list[dict[str, float]]:
    recipe = replace(load_recipe("resnet20-fast"), epochs=2, batch_size=10, validation=0.2, precision=precision)
    job = Job(recipe=recipe, data=str(folder), data_root=output, output=output, threads=1, device=device)
    assert fit(job, Console(file=io.StringIO())) == 0
    return [json.loads(line) for line in (output / "metrics.jsonl").read_text().splitlines()]


@pytest.mark.parametrize(("precision", "within"), [("fp32", 0.02), ("bf16", 0.1)])
def test_losses_are_those_of_the_cpu(folder, tmp_path, precision, within):
    ours = _history(folder, tmp_path / "gpu", "cuda", precision)
    theirs = _history(folder, tmp_path / "cpu", "cpu", "fp32")
    assert [row["loss"] for row in ours] == pytest.approx([row["loss"] for row in theirs], rel=within)


def test_checkpoint_is_read_without_a_gpu_and_the_run_goes_on(folder, tmp_path):
    _history(folder, tmp_path, "cuda", "auto")
    checkpoint = read_checkpoint(tmp_path / "last.pt")
    assert {value.device.type for value in checkpoint.weights.values()} == {"cpu"}
    recipe = replace(load_recipe("resnet20-fast"), epochs=2, batch_size=10, validation=0.2)
    job = Job(recipe=recipe, data=str(folder), data_root=tmp_path, output=tmp_path, resume=True, device="cuda")
    assert fit(job, Console(file=io.StringIO())) == 0
