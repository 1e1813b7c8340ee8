"""Files as training scripts save them: tensors are as they were, all else is there and does nothing."""

import argparse
import collections
import enum
import io
import os
import pickle
import random
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from training.weights.stand_ins import StandIn, load_inert

WEIGHTS = {"fc.weight": torch.arange(6.0).view(2, 3), "fc.bias": torch.ones(2)}


class Stage(enum.Enum):
    TRAIN = 1


class Config(dict[str, int]):
    pass


class Tracker:
    def __init__(self) -> None:
        self.best = {"epoch": 3}


class Spy:
    """Unpickling it would call what it names."""

    def __init__(self, function: object, *arguments: object) -> None:
        self.function, self.arguments = function, arguments

    def __reduce__(self):
        return self.function, self.arguments


def saved(content: object, old_format: bool = False) -> bytes:
    torch.save(content, stream := io.BytesIO(), _use_new_zipfile_serialization=not old_format)
    return stream.getvalue()


@pytest.mark.parametrize("old_format", [False, True])
@pytest.mark.parametrize(
    ("beside", "name"),
    [
        (argparse.Namespace(lr=0.1), "argparse.Namespace"),
        (np.float64(0.9), "numpy._core.multiarray.scalar"),
        (np.ones(3), "numpy._core.multiarray._reconstruct"),
        (Path("data") / "train", "pathlib.PosixPath"),
        (Stage.TRAIN, f"{__name__}.Stage"),
        (Tracker(), f"{__name__}.Tracker"),
        (Config(depth=18), f"{__name__}.Config"),
        (collections.defaultdict(list, a=[1]), "collections.defaultdict"),
        (collections.deque([1, 2]), "collections.deque"),
        (frozenset([1]), "builtins.frozenset"),
        (slice(1, 2), "builtins.slice"),
    ],
)
def test_objects_beside_the_weights_are_inert_and_named(beside: object, name: str, old_format: bool):
    content, names = load_inert(saved({"model": WEIGHTS, "beside": [beside, random.getstate()]}, old_format))
    assert name in names
    assert isinstance(content, dict)
    assert all(torch.equal(content["model"][key], value) for key, value in WEIGHTS.items())
    assert type(content["beside"][0]) is not type(beside)


def test_a_stand_in_keeps_what_it_was_made_of_and_its_state():
    content, _ = load_inert(saved([argparse.Namespace(model="resnet18"), Path("a") / "b"]))
    arguments, path = content
    assert isinstance(arguments, StandIn)
    assert arguments.state == {"model": "resnet18"}
    assert path.made_of == ("a", "b")


@pytest.mark.parametrize(
    ("spy", "name"),
    [
        (Spy(exec, "MADE.mkdir()"), "builtins.exec"),
        (Spy(eval, "MADE.mkdir()"), "builtins.eval"),
        (Spy(shutil.copytree, __file__.rpartition("/")[0], "made"), "shutil.copytree"),
        (Spy(np.save, "made", 1), "numpy.save"),
    ],
)
def test_nothing_of_the_file_runs(spy: Spy, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("builtins.MADE", tmp_path / "made", raising=False)
    data = saved({"model": WEIGHTS, "spy": spy})
    content, names = load_inert(data)
    assert name in names
    assert isinstance(content["spy"], StandIn)
    assert not any(tmp_path.iterdir())
    torch.load(io.BytesIO(data), weights_only=False)  # the trap is a working one
    assert any(tmp_path.iterdir())


def test_stand_ins_are_forgotten():
    data = saved({"model": WEIGHTS, "args": argparse.Namespace(lr=0.1)})
    load_inert(data)
    with pytest.raises(pickle.UnpicklingError, match="argparse"):
        torch.load(io.BytesIO(data), weights_only=True)


def test_what_torch_never_loads_is_refused():
    with pytest.raises(pickle.UnpicklingError, match=r"posix\.mkdir"):
        load_inert(saved(Spy(os.mkdir, "x")))
