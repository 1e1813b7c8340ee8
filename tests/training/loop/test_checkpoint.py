import os
import resource
import signal
import subprocess
import sys

import pytest
import torch

from training.data.dataset import Normalization
from training.data.preprocessing_spec import preprocessing_spec
from training.errors import CheckpointError
from training.loop.checkpoint import Checkpoint, read_checkpoint, remove_partial, write_atomically, write_checkpoint

PREPROCESSING = preprocessing_spec((1, 28, 28), 28, Normalization((0.1307,), (0.3081,)), polarity="light_on_dark")


def _checkpoint(value=1.0):
    return Checkpoint(
        architecture="resnet20",
        arguments={"shortcut": "B"},
        labels=("cat", "dog"),
        preprocessing=PREPROCESSING,
        recipe={"epochs": 3, "optimizer": {"learning_rate": 0.1}, "augmentation": None},
        data="mnist",
        seed=7,
        metrics={"split": "validation", "accuracy": 0.5},
        weights={"fc.weight": torch.full((50, 50), value)},
        state={"progress": {"epoch": 1, "history": [{"loss": 0.25}]}, "generator": torch.get_rng_state()},
    )


@pytest.fixture
def path(tmp_path):
    return tmp_path / "last.pt"


def test_reads_what_was_written(path):
    write_checkpoint(path, _checkpoint())
    ours, read = _checkpoint(), read_checkpoint(path)
    assert torch.equal(read.weights.pop("fc.weight"), ours.weights.pop("fc.weight"))
    assert torch.equal(read.state.pop("generator"), ours.state.pop("generator"))
    assert read == ours


def test_file_is_what_the_docstring_says(path):
    """Others read it with torch alone."""
    write_checkpoint(path, _checkpoint())
    content = torch.load(path, weights_only=True)
    assert content["format_version"] == 1
    assert content["preprocessing"]["mean"] == (0.1307,)
    assert content["weights"]["fc.weight"].shape == (50, 50)
    assert path.stat().st_mode & 0o777 == 0o644


@pytest.mark.parametrize("limit", [0, 1000])
def test_full_disk_leaves_the_last_good_one(path, limit):
    write_checkpoint(path, _checkpoint(1.0))
    before, unlimited = path.read_bytes(), resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, unlimited[1]))
    try:
        with pytest.raises(CheckpointError, match=r"last\.pt cannot be written: .*untouched"):
            write_checkpoint(path, _checkpoint(2.0))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, unlimited)
    assert path.read_bytes() == before
    assert [file.name for file in path.parent.iterdir()] == ["last.pt"]


def test_missing_folder_is_told(tmp_path):
    with pytest.raises(CheckpointError, match="No such file or directory"):
        write_atomically(tmp_path / "absent" / "metrics.jsonl", b"")


def test_killed_writer_never_leaves_half_a_file(path):
    script = f"""
import itertools, pathlib
from training.loop.checkpoint import write_atomically
for number in itertools.count():
    write_atomically(pathlib.Path({str(path)!r}), bytes([number % 256]) * 3_000_000)
    print(number, flush=True)
"""
    writer = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    for _ in range(20):
        writer.stdout.readline()
    writer.send_signal(signal.SIGKILL)
    writer.communicate()
    content = path.read_bytes()
    assert len(content) == 3_000_000
    assert len(set(content)) == 1
    remove_partial(path.parent)
    assert list(path.parent.iterdir()) == [path]


class Payload:
    def __reduce__(self):
        return os.mkdir, ("pwned",)


def test_foreign_code_is_not_run(path, monkeypatch):
    monkeypatch.chdir(path.parent)
    torch.save({"format_version": 1, "weights": Payload()}, path)
    with pytest.raises(CheckpointError, match="not a checkpoint"):
        read_checkpoint(path)
    assert not (path.parent / "pwned").exists()


@pytest.mark.parametrize("keep", [0, 5, 100, -1])
def test_damaged_file_is_told(path, keep):
    write_checkpoint(path, _checkpoint())
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(CheckpointError, match=r"last\.pt is not a checkpoint, or a damaged one"):
        read_checkpoint(path)


def test_damaged_weights_are_told(path):
    write_checkpoint(path, _checkpoint(0.3))
    value = torch.tensor(0.3).numpy().tobytes()
    path.write_bytes(path.read_bytes().replace(value * 8, bytes(32), 1))
    with pytest.raises(CheckpointError, match=r"last\.pt is damaged: .*/data/0 in it is not what was saved"):
        read_checkpoint(path)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"format_version": 2}, "no checkpoint of resnet-train's format 1"),
        ({"weights": None, "labels": None}, "lacks labels, weights"),
        ({"preprocessing": {"mode": "L"}}, r"not as `resnet-train fit` writes checkpoints: .*height: Field required"),
        ({"preprocessing": {"colour": "L"}}, r"not as `resnet-train fit` writes checkpoints: .*colour: Unexpected"),
        ({"labels": ("cat", 1)}, r"not as `resnet-train fit` writes checkpoints: labels\.1: .*string"),
        ({"weights": {"fc.weight": 1}}, r"not as `resnet-train fit` writes checkpoints: weights\.fc\.weight: .*Tensor"),
        ({"weights": [1], "recipe": 3}, r"not as `resnet-train fit` writes checkpoints: weights: .*; recipe: "),
        ({"arguments": ["A"], "state": ()}, r"not as `resnet-train fit` writes checkpoints: arguments: .*; state: "),
    ],
)
def test_other_content_is_told(path, change, told):
    write_checkpoint(path, _checkpoint())
    content = torch.load(path, weights_only=True) | change
    torch.save({key: value for key, value in content.items() if value is not None}, path)
    with pytest.raises(CheckpointError, match=told):
        read_checkpoint(path)


def test_weights_alone_are_no_checkpoint(path):
    torch.save(torch.zeros(3), path)
    with pytest.raises(CheckpointError, match="no checkpoint of"):
        read_checkpoint(path)


def test_missing_file_is_told(path):
    with pytest.raises(CheckpointError, match="No such file"):
        read_checkpoint(path)
