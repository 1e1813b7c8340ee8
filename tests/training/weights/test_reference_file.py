"""A file of an origin's answers that is missing, or is something else, is told in words that name what is needed."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch

from training.errors import WeightsError
from training.weights.reference_file import read_arrays

LOGITS = np.arange(6, dtype=np.float32).reshape(2, 3)

WRONG: dict[str, tuple[str, Callable[[Path], object], str]] = {
    "no file": ("x.npz", Path.exists, "cannot be read: No such file or directory"),
    "a folder": ("x.npz", Path.mkdir, "cannot be read: Is a directory"),
    "an empty file": ("x.npz", Path.touch, "is no .npz file of arrays of numbers, or a damaged one"),
    "text": ("x.npz", lambda path: path.write_text("1,2,3\n" * 99), "is no .npz file of arrays of numbers"),
    "half of it": ("x.npz", lambda path: _cut(path), "is no .npz file of arrays of numbers, or a damaged one"),
    "one array": ("x.npz", lambda path: _as_npy(path), "is no .npz file of arrays of numbers"),
    "objects": ("x.npz", lambda path: np.savez(path, logits=np.array([{}])), "is no .npz file of arrays of numbers"),
    "words": ("x.npz", lambda path: np.savez(path, logits=np.array(["a"])), "is no .npz file of arrays of numbers"),
    "other names": ("x.npz", lambda path: np.savez(path, x=LOGITS, y=LOGITS), "holds x, y"),
    "no arrays": ("x.npz", lambda path: np.savez(path), "holds no arrays"),
    "text as weights": ("x.pt", lambda path: path.write_text("logits"), "is no file of arrays, or a damaged one"),
    "a list": ("x.pt", lambda path: torch.save([torch.ones(2)], path), "holds no arrays"),
    "a table": ("x.csv", lambda path: path.write_text("logits\n1\n"), "is no file of arrays, or a damaged one"),
    "text as safetensors": ("x.safetensors", lambda path: path.write_text("a" * 99), "is no file of arrays"),
}


def _cut(path: Path) -> None:
    np.savez(path, inputs=LOGITS, logits=LOGITS)
    path.write_bytes(path.read_bytes()[:-100])


def _as_npy(path: Path) -> None:
    with path.open("wb") as stream:
        np.save(stream, LOGITS)


@pytest.mark.parametrize("case", WRONG)
def test_what_is_no_reference_is_told(case: str, tmp_path: Path) -> None:
    name, make, told = WRONG[case]
    make(tmp_path / name)
    with pytest.raises(WeightsError) as refused:
        read_arrays(tmp_path / name)
    assert str(refused.value).startswith(f"the reference {tmp_path / name} {told}")
    assert "needed is a .npz, .safetensors or .pt file with the arrays inputs and logits" in str(refused.value)


@pytest.mark.parametrize("kind", ["npz", "safetensors", "pt"])
def test_arrays_are_read_by_name(kind: str, tmp_path: Path) -> None:
    path = tmp_path / f"x.{kind}"
    if kind == "npz":
        np.savez(path, logits=LOGITS)
    else:
        (torch.save if kind == "pt" else safetensors.torch.save_file)({"logits": torch.from_numpy(LOGITS)}, path)
    assert np.array_equal(read_arrays(path)["logits"].numpy(), LOGITS)
