"""A training run on disk: what a release is made from, and what a resumed run goes on from.

One file, written by `torch.save` and read with `weights_only=True`, so that reading it never runs code:

    format_version  1
    architecture    name in `models.networks.registry`
    arguments       what its builder was given beyond the class count
    labels          name of each class, in the order of the logits
    preprocessing   the fields of `models.images.preprocessing.Preprocessing`
    recipe          the settings that were in force, as in the recipe's file
    data            name or path of the data set
    seed            seed of all that is random in the run
    metrics         figures of `weights`, with the data set and split that they were measured on
    weights         state dict for `registry.build(architecture, classes=len(labels), **arguments)`, contiguous: where
                    the recipe averages, the averaged or the raw ones, whichever were better on the images held back
    state           what `training.loop.run.Run` goes on from: raw weights, optimiser, place in the epoch, sums
"""

import contextlib
import dataclasses
import fcntl
import io
import os
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from torch import Tensor

from models.artifact.artifact import fsync_directory
from models.images.preprocessing import Preprocessing
from models.validation import explain
from training.data.fingerprint import Fingerprint
from training.errors import CheckpointError
from training.loop.torch_archive import damaged_record
from training.loop.trained_network import TrainedNetwork

FORMAT_VERSION = 1
"""Version of the file's layout."""


@dataclass(frozen=True, slots=True)
class Checkpoint(TrainedNetwork):
    """A trained network and its run; the fields are those of the file, in the module's docstring."""

    recipe: dict[str, Any]
    data: str
    seed: int
    metrics: dict[str, str | int | float]
    state: dict[str, Any] = field(repr=False)

    @property
    def fingerprints(self) -> list[Fingerprint] | None:
        """Of the images that were trained on, and of those held back, if any; None if the run did not keep them."""
        return self.state.get("fingerprints")


_FIELDS = tuple(entry.name for entry in dataclasses.fields(Checkpoint))


class _Content(BaseModel):
    """The fields as a file holds them."""

    model_config = ConfigDict(strict=True, arbitrary_types_allowed=True)

    architecture: str
    arguments: dict[str, str]
    labels: tuple[str, ...]
    preprocessing: dict[str, Any]
    weights: dict[str, Tensor]
    recipe: dict[str, Any]
    data: str
    seed: int
    metrics: dict[str, str | int | float]
    state: dict[str, Any]


_PARTIAL = ".part"
"""How the name of a temporary file ends."""

BEGIN_ANOTHER = "its weights may be whole: begin another run from them, by --from and --output"
"""What is left of a run whose state is damaged."""


class _Place(BaseModel):
    """The fields of `training.loop.progress.Progress`."""

    model_config = ConfigDict(strict=True, extra="forbid")

    epoch: int = Field(ge=0)
    step: int = Field(ge=0)
    loss: float
    correct: int
    images: int
    seconds: float
    history: list[dict[str, bool | int | float]]


class _RunState(BaseModel):
    """What `training.loop.run.Run` goes on from; whether the weights fit shows when they are loaded."""

    model_config = ConfigDict(strict=True, arbitrary_types_allowed=True)

    progress: _Place
    network: dict[str, Tensor]
    average: dict[str, Any] | None
    optimizer: dict[str, Any]
    generator: Tensor
    threads: int = Field(ge=1)


def read_checkpoint(path: Path) -> Checkpoint:
    """Read a checkpoint onto the CPU; CheckpointError if it is missing, damaged, or of another format."""
    content = _load(path)
    if not isinstance(content, dict) or content.get("format_version") != FORMAT_VERSION:
        raise CheckpointError(
            f"{path} is no checkpoint of resnet-train's format {FORMAT_VERSION}: give best.pt or last.pt of a run; "
            "`resnet-train import` takes other weights"
        )
    missing = [name for name in _FIELDS if name not in content]
    if missing:
        raise CheckpointError(
            f"{path} lacks {', '.join(missing)}: it is not a whole checkpoint; give best.pt or last.pt of a run"
        )
    try:
        values = dict(_Content(**{name: content[name] for name in _FIELDS}))
        return Checkpoint(**values | {"preprocessing": Preprocessing(**values["preprocessing"])})
    except ValidationError as error:
        raise CheckpointError(
            f"{path} is not as `resnet-train fit` writes checkpoints: {explain(error)}; give one that it wrote"
        ) from error


def read_run(path: Path) -> Checkpoint:
    """Read the checkpoint of a run that can go on; CheckpointError if it is none, or has only the weights of one."""
    checkpoint = read_checkpoint(path)
    if missing := _RunState.model_fields.keys() - checkpoint.state.keys():
        raise CheckpointError(
            f"{path} holds a network and no run to go on from ({', '.join(sorted(missing))} missing): "
            "begin another run from it, by --from and --output"
        )
    try:
        _RunState(**checkpoint.state)
    except ValidationError as error:
        raise CheckpointError(f"{path} cannot be gone on from: {explain(error)}; {BEGIN_ANOTHER}") from error
    return checkpoint


def write_checkpoint(path: Path, checkpoint: Checkpoint) -> None:
    """Write a checkpoint whole or not at all: until it is complete, `path` holds the old one."""
    content = {name: getattr(checkpoint, name) for name in _FIELDS}
    content["preprocessing"] = dataclasses.asdict(checkpoint.preprocessing)
    content["format_version"] = FORMAT_VERSION
    # In memory first: a full disk is then an OSError of the write below, not an error of torch's.
    buffer = io.BytesIO()
    torch.save(content, buffer)
    write_atomically(path, buffer.getvalue())


def make_folder(path: Path, flag: str = "--output") -> bool:
    """Make the folder that this flag named, if it is not there; whether it was not. CheckpointError."""
    try:
        is_new = not path.is_dir()
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise CheckpointError(f"{path} cannot be made: {error.strerror}; give another {flag}") from error
    return is_new


@contextlib.contextmanager
def claimed(folder: Path) -> Iterator[Path]:
    """Keep other runs out of the folder within this context; CheckpointError if one is at work there.

    Yield a path that leads to this folder wherever it is moved, and never to another that is made in its place. What
    writers that were killed left half-written is removed.
    The kernel holds the lock, and takes it back from a process that dies; on file systems that know none there is none.
    """
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise CheckpointError(
                f"another process is training in {folder}: wait until it has ended, or give another --output"
            ) from error
        except OSError:
            pass
        remove_partial(folder)
        yield Path(f"/proc/self/fd/{descriptor}")
    finally:
        os.close(descriptor)


def remove_partial(folder: Path) -> None:
    """Remove the temporary files of writers that were killed; OSError."""
    for path in folder.glob(f".*{_PARTIAL}"):
        path.unlink(missing_ok=True)


def write_atomically(path: Path, data: bytes) -> None:
    """Replace a file by way of a temporary one that has reached the disk; CheckpointError if it cannot be written."""
    try:
        _replace(path, data)
    except OSError as error:
        place = path.parent.resolve() / path.name  # what is claimed by its descriptor has a name, too
        raise CheckpointError(
            f"{place} cannot be written: {error.strerror or error}; make room there, or give another place. What it "
            "held before is untouched"
        ) from error


def _load(path: Path) -> object:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise CheckpointError(
            f"{path} cannot be read: {error.strerror or error}; give best.pt or last.pt in a run's folder"
        ) from error
    try:
        content = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except Exception as error:  # torch answers damage with KeyError, EOFError, RuntimeError, OSError and more
        raise CheckpointError(
            f"{path} is not a checkpoint, or a damaged one: give best.pt or last.pt of a run; one of them may be whole"
        ) from error
    if record := damaged_record(data):
        raise CheckpointError(
            f"{path} is damaged: {record} in it is not what was saved; give best.pt or last.pt of a run, whichever is "
            "whole"
        )
    return content


def _replace(path: Path, data: bytes) -> None:
    with tempfile.NamedTemporaryFile(prefix=f".{path.name}.", suffix=_PARTIAL, dir=path.parent, delete=False) as stream:
        temporary = Path(stream.name)
        try:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
            temporary.chmod(0o644)  # the temporary file's 0o600 would hide the run from other users, who may export it
            temporary.replace(path)
            fsync_directory(path.parent)
        except BaseException:
            with contextlib.suppress(OSError):
                temporary.unlink()
            raise
