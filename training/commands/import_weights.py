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
from models.networks.pixel_net import PixelNet
from training.errors import UsageError, WeightsError
from training.options import ImportOptions
from training.release.onnx_export import to_onnx
from training.release.parity import PARITY_BOUND, check_parity
from training.release.release import assemble, describe, release
from training.weights import torchvision_weights
from training.weights.conversion import Adopted, adopt
from training.weights.model_spec import spec_of_options
from training.weights.weights_file import read_weights

_PICTURES = 8
"""Pictures of noise on which the graph is compared with PyTorch."""


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


def import_weights(options: ImportOptions) -> Import:
    """Write the artifact whole or not at all; raises TrainingError or ArtifactError.

    The graph is compared with PyTorch on noise, since weights come without pictures.
    """
    path = torchvision_weights.find(options.source) or Path(options.source)
    file = read_weights(path)
    try:
        adopted = adopt(file.content, options.arch, options.zero_channels)
    except registry.ArchitectureError as error:
        raise UsageError(str(error)) from error
    metadata = _metadata(options, path.name, file.sha256, adopted)
    network = PixelNet(adopted.network, metadata.preprocessing).eval()
    shape = metadata.preprocessing.shape
    draft = assemble(options.name, options.version, to_onnx(network, shape), metadata)
    difference = check_parity(network, load_engine(draft, threads=torch.get_num_threads()), _noise(shape))
    weights = safetensors.torch.save(adopted.network.state_dict())
    return Import(release(draft, options.repository, weights), metadata, difference)


def _metadata(options: ImportOptions, file: str, sha256: str, adopted: Adopted) -> Metadata:
    """What the user says of the network, then what the publisher does, then what is usual for the architecture."""
    channels, side, _ = registry.describe(options.arch).input_shape
    if channels != 3:
        raise WeightsError(f"{options.arch} takes no colour pictures; `resnet-train fit` trains it in minutes")
    publication = torchvision_weights.by_sha256(sha256)
    like = torchvision_weights.by_name(options.like) if options.like else publication
    spec = spec_of_options(options)
    spec = spec.over(torchvision_weights.model_spec(like)) if like else spec
    labels, preprocessing = spec.settle(adopted.classes, side)
    return describe(
        architecture=options.arch,
        arguments=adopted.arguments,
        labels=labels,
        preprocessing=preprocessing,
        metrics=torchvision_weights.metrics(publication) if publication else {},
        recipe={
            "imported_from": file,
            "sha256": sha256,
            "weights": str(publication) if publication else None,
            "zero_channels": options.zero_channels,
        },
    )


def _noise(shape: tuple[int, int, int]) -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, (_PICTURES, *shape), np.uint8)
