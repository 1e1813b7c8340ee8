"""`resnet-train import`: other people's weights become a released model, with proof that nothing changed."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import safetensors.torch
import torch
from numpy.typing import NDArray

from models.artifact.metadata import Metadata
from models.engines.loader import load_engine
from models.networks import registry
from training.commands.export import PARITY_BOUND, compare
from training.errors import WeightsError
from training.release.onnx_export import PixelNet, to_onnx
from training.release.release import assemble, describe, release
from training.weights import torchvision_weights
from training.weights.conversion import Adopted, ZeroChannels, adopt
from training.weights.model_spec import Contract
from training.weights.weights_file import read_weights

_PICTURES = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """What the command line asks for.

    `source` is a file, or one of torchvision's names for weights; `like` such a name, whose contract is meant;
    `contract` is what the user says of it, before any publisher.
    """

    source: str
    architecture: str
    name: str
    version: int
    repository: Path
    contract: Contract
    like: str | None = None
    zero_channels: ZeroChannels | None = None


@dataclass(frozen=True, slots=True)
class Import:
    """What was written, and the largest |difference| of a logit from PyTorch's."""

    directory: Path
    metadata: Metadata
    difference: float

    def report(self) -> str:
        """A few lines for people."""
        spec, labels, recipe = self.metadata.preprocessing, self.metadata.labels, self.metadata.recipe
        arguments = "".join(f" {key} {value}" for key, value in self.metadata.arguments.items())
        return (
            f"{self.directory}\n"
            f"  {self.metadata.architecture}{arguments} with {recipe['weights'] or recipe['imported_from']}\n"
            f"  {len(labels)} classes, {labels[0]} to {labels[-1]}\n"
            f"  resize {spec.resize}, crop {spec.height}, mean {spec.mean}, std {spec.std}\n"
            f"  its logits differ from PyTorch's by {self.difference:.1e}; allowed is {PARITY_BOUND:g} of the largest"
        )


def import_weights(job: Job) -> Import:
    """Write the artifact whole or not at all; raises TrainingError, ArtifactError or ArchitectureError.

    The graph is compared with PyTorch on noise, since weights come without pictures.
    """
    path = torchvision_weights.find(job.source) or Path(job.source)
    file = read_weights(path)
    adopted = adopt(file.content, job.architecture, job.zero_channels)
    metadata = _metadata(job, path.name, file.sha256, adopted)
    network = PixelNet(adopted.network, metadata.preprocessing).eval()
    shape = metadata.preprocessing.shape
    draft = assemble(job.name, job.version, to_onnx(network, shape), metadata)
    difference = compare(network, load_engine(draft, threads=torch.get_num_threads()), _noise(shape))
    weights = safetensors.torch.save(adopted.network.state_dict())
    return Import(release(draft, job.repository, weights), metadata, difference)


def _metadata(job: Job, file: str, sha256: str, adopted: Adopted) -> Metadata:
    """What the user says of the network, then what the publisher does, then what is usual for the architecture."""
    channels, side, _ = registry.describe(job.architecture).input_shape
    if channels != 3:
        raise WeightsError(f"{job.architecture} takes no colour pictures; `resnet-train fit` trains it in minutes")
    publication = torchvision_weights.by_sha256(sha256)
    like = torchvision_weights.by_name(job.like) if job.like else publication
    contract = job.contract.over(torchvision_weights.contract(like)) if like else job.contract
    labels, preprocessing = contract.settle(adopted.classes, side)
    return describe(
        architecture=job.architecture,
        arguments=adopted.arguments,
        labels=labels,
        preprocessing=preprocessing,
        metrics=torchvision_weights.metrics(publication) if publication else {},
        recipe={
            "imported_from": file,
            "sha256": sha256,
            "weights": str(publication) if publication else None,
            "zero_channels": job.zero_channels,
        },
    )


def _noise(shape: tuple[int, int, int]) -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, (_PICTURES, *shape), np.uint8)
