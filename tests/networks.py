"""Released models of real networks, untrained: for the engines, which must agree on any weights."""

from pathlib import Path

import numpy as np
import safetensors.torch
import torch
from numpy.typing import NDArray
from torch import nn

from models.artifact.artifact import Artifact
from models.images.preprocessing import Preprocessing
from models.networks import registry
from models.networks.pixel_net import PixelNet
from training.data.dataset import Normalization
from training.data.preprocessing_spec import preprocessing_spec
from training.release.onnx_export import to_onnx
from training.release.release import assemble, describe, release

MEAN, STD = (0.4914, 0.4822, 0.4465), (0.247, 0.2435, 0.2616)


def release_network(repository: Path, architecture: str, classes: int, **arguments: str) -> Path:
    """Write version 1 of a network whose batch norms, if any, have seen data; graph, weights and golden examples."""
    with torch.random.fork_rng():
        torch.manual_seed(classes)
        network = registry.build(architecture, classes=classes, **arguments).eval()
        _settle(network)
    preprocessing = preprocessing_for(architecture)
    metadata = describe(
        architecture=architecture,
        arguments=arguments,
        labels=tuple(f"class {i}" for i in range(classes)),
        preprocessing=preprocessing,
        metrics={},
        recipe={},
    )
    draft = assemble(architecture, 1, to_onnx(PixelNet(network, preprocessing), preprocessing.shape), metadata)
    return release(draft, repository, safetensors.torch.save(network.state_dict()))


def preprocessing_for(architecture: str) -> Preprocessing:
    """Pictures of the size that the network was designed for."""
    shape = registry.describe(architecture).input_shape
    channels, height, width = shape
    return preprocessing_spec(shape, max(height, width), Normalization(MEAN[:channels], STD[:channels]))


def _settle(network: nn.Module) -> None:
    """Batch norm that was never trained is the identity, and would hide that it was left out."""
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.running_mean, -0.2, 0.2)
            nn.init.uniform_(module.running_var, 0.5, 1.5)
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.uniform_(module.bias, -0.2, 0.2)


def count_parameters(network: nn.Module) -> int:
    """How many numbers training may change."""
    return sum(parameter.numel() for parameter in network.parameters())


def random_pictures(artifact: Artifact, n: int) -> NDArray[np.uint8]:
    """Noise of the artifact's shape, the same in every call."""
    return np.random.default_rng(n).integers(0, 256, (n, *artifact.input_shape), dtype=np.uint8)
