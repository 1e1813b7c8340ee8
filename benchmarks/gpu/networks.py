"""Networks with random weights that behave like trained ones: every batch norm has seen pictures, one class wins."""

import warnings
from pathlib import Path

import safetensors.torch
import torch
from torch import nn

from models.artifact.artifact import Artifact, read_artifact
from models.images.preprocessing import Preprocessing
from models.networks import registry
from models.networks.pixel_net import PixelNet
from training.release.onnx_export import to_onnx
from training.release.release import assemble, describe, release

_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_PICTURES = 8  # whose statistics the batch norms take


def preprocessing_of(name: str) -> Preprocessing:
    """Of colour pictures of the size that the network was designed for, resized a seventh larger."""
    channels, height, width = registry.describe(name).input_shape
    return Preprocessing.usual((height, width, channels), height * 8 // 7, _MEAN[:channels], _STD[:channels])


def calibrated(name: str) -> nn.Module:
    """The network with statistics of noise in its batch norms, and a first class that is always the best.

    Without the statistics the sums of fifty blocks leave fp16's range; without the winner half precision changes who
    wins.
    """
    torch.manual_seed(0)
    network = registry.build(name)
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    for norm in norms:
        norm.momentum = None  # the mean of all batches
    with torch.inference_mode():
        logits = network.train()(torch.randn(_PICTURES, *registry.describe(name).input_shape))
        last = [module for module in network.modules() if isinstance(module, nn.Linear)][-1]
        last.bias[0] += 6 * logits.std()
    return network.eval().requires_grad_(False)


def released(name: str, repository: Path) -> Artifact:
    """Version 1 of the network in a folder of its own, with graph and weights; made if it is not there."""
    directory = repository / name / name / "1"
    if not directory.exists():
        network, spec = calibrated(name), preprocessing_of(name)
        labels = tuple(f"class {i}" for i in range(registry.describe(name).classes))
        metadata = describe(architecture=name, arguments={}, labels=labels, preprocessing=spec, metrics={}, recipe={})
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the exporter's, about its own libraries
            graph = to_onnx(PixelNet(network, spec), spec.shape)
        weights = safetensors.torch.save({key: value.contiguous() for key, value in network.state_dict().items()})
        release(assemble(name, 1, graph, metadata), repository / name, weights)
    return read_artifact(directory)
