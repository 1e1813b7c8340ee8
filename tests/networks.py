"""Released models of real networks, untrained: for the engines, which must agree on any weights."""

from pathlib import Path

import numpy as np
import safetensors.torch
import torch
from numpy.typing import NDArray
from torch import nn

from models.artifact.artifact import Artifact, Preprocessing
from models.networks import registry
from models.networks.pixel_net import PixelNet
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
    channels, height, width = registry.describe(architecture).input_shape
    return Preprocessing(
        mode="L" if channels == 1 else "RGB",
        height=height,
        width=width,
        exif_transpose=True,
        background=(255, 255, 255),
        sixteen_bit="high_byte",
        polarity="as_is",
        resize=max(height, width),
        crop="center",
        interpolation="bilinear",
        antialias=True,
        draft=True,
        mean=MEAN[:channels],
        std=STD[:channels],
    )


def _settle(network: nn.Module) -> None:
    """Batch norm that was never trained is the identity, and hides that it was forgotten."""
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.running_mean, -0.2, 0.2)
            nn.init.uniform_(module.running_var, 0.5, 1.5)
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.uniform_(module.bias, -0.2, 0.2)


def random_pictures(artifact: Artifact, n: int) -> NDArray[np.uint8]:
    """Noise of the artifact's shape, the same in every call."""
    return np.random.default_rng(n).integers(0, 256, (n, *artifact.input_shape), dtype=np.uint8)
