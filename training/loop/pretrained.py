"""A trained network to go on from with other images: a run's checkpoint, or a released model."""

from dataclasses import dataclass, field
from pathlib import Path

import safetensors.torch
from safetensors import SafetensorError
from torch import Tensor, nn

from models.artifact.artifact import read_artifact
from models.artifact.metadata import ArtifactError
from models.images.preprocessing import Preprocessing
from models.networks import registry
from training.data.dataset import Normalization
from training.errors import WeightsError
from training.loop.checkpoint import Checkpoint, read_checkpoint

HEAD = "fc"
"""Name of the last layer in every network of the registry: it alone depends on the classes."""


@dataclass(frozen=True, slots=True)
class Pretrained:
    """Weights, and what they were trained for; the fields are those of `training.loop.checkpoint.Checkpoint`."""

    architecture: str
    arguments: dict[str, str]
    labels: tuple[str, ...]
    preprocessing: Preprocessing
    weights: dict[str, Tensor] = field(repr=False)

    @classmethod
    def of(cls, checkpoint: Checkpoint) -> "Pretrained":
        """Return what a run has reached."""
        return cls(
            checkpoint.architecture,
            checkpoint.arguments,
            checkpoint.labels,
            checkpoint.preprocessing,
            checkpoint.weights,
        )

    @property
    def normalization(self) -> Normalization:
        """Mean and deviation that the weights expect, whatever those of the new images are."""
        return Normalization(self.preprocessing.mean, self.preprocessing.std)

    def network(self, labels: tuple[str, ...]) -> nn.Module:
        """Build the network for these labels, with a new head if they are others; WeightsError if nothing fits."""
        try:
            network = registry.build(self.architecture, classes=len(labels), **self.arguments)
            fresh = {key: value for key, value in network.state_dict().items() if _in_head(key)}
            network.load_state_dict(self.weights if labels == self.labels else self.weights | fresh)
        except (registry.ArchitectureError, RuntimeError) as error:
            raise WeightsError(f"the weights to start from are not a {self.architecture}'s: {error}") from error
        return network


def read_pretrained(path: Path) -> Pretrained:
    """Read last.pt or best.pt of a run, or the directory of a released model; TrainingError if it is neither."""
    return _released(path) if path.is_dir() else Pretrained.of(read_checkpoint(path))


def freeze(network: nn.Module) -> None:
    """Keep every weight but the head's as it is."""
    for name, parameter in network.named_parameters():
        parameter.requires_grad_(_in_head(name))


def body_rate_of(name: str, body_rate: float) -> float:
    """Return what the learning rate of the parameter of that name is multiplied with."""
    return 1.0 if _in_head(name) else body_rate


def _in_head(name: str) -> bool:
    return name.startswith(f"{HEAD}.")


def _released(directory: Path) -> Pretrained:
    try:
        artifact = read_artifact(directory)
    except ArtifactError as error:
        raise WeightsError(f"nothing to start from: {error}") from error
    if artifact.weights is None:
        raise WeightsError(f"{directory} holds no model.safetensors: only its graph is there, which cannot be trained")
    try:
        weights = safetensors.torch.load(artifact.weights)
    except SafetensorError as error:
        raise WeightsError(f"{directory}: model.safetensors is damaged: {error}") from error
    metadata = artifact.metadata
    return Pretrained(metadata.architecture, metadata.arguments, metadata.labels, metadata.preprocessing, weights)
