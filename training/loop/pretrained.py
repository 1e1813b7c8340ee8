"""What fine-tuning starts from: a run's checkpoint, or a released model."""

from pathlib import Path

import safetensors.torch
from safetensors import SafetensorError

from models.artifact.artifact import read_artifact
from models.artifact.metadata import ArtifactError
from training.errors import WeightsError
from training.loop.checkpoint import read_checkpoint
from training.loop.run import LAST
from training.loop.trained_network import TrainedNetwork


def read_pretrained(path: Path) -> TrainedNetwork:
    """Read last.pt or best.pt of a run, or the directory of a released model; TrainingError if it is neither."""
    return _released(path) if may_be_release(path) else read_checkpoint(path)


def may_be_release(path: Path) -> bool:
    """Whether this is a folder, but not a run's: to read that as a checkpoint tells which are in it."""
    return path.is_dir() and not (path / LAST).exists()


def _released(directory: Path) -> TrainedNetwork:
    try:
        artifact = read_artifact(directory)
    except ArtifactError as error:
        raise WeightsError(f"nothing to start from: {error}") from error
    if artifact.weights is None:
        raise WeightsError(
            f"{directory} holds no model.safetensors: only its graph is there, which cannot be trained; give a "
            "checkpoint, or a version with weights"
        )
    try:
        weights = safetensors.torch.load(artifact.weights)
    except SafetensorError as error:
        raise WeightsError(f"{directory}: model.safetensors is damaged; export or copy the model again") from error
    metadata = artifact.metadata
    return TrainedNetwork(metadata.architecture, metadata.arguments, metadata.labels, metadata.preprocessing, weights)
