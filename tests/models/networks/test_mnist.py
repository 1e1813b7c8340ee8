"""The MNIST networks against the same mathematics written as a list of functional calls."""

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from models.networks.mnist import InceptionNet, ResidualNet
from tests.networks import count_parameters

Weights = dict[str, Tensor]


def randomize(network: torch.nn.Module) -> Weights:
    """Give every weight and running statistic a value of its own, so that no swapped pair goes unseen."""
    generator = torch.Generator().manual_seed(1)
    for name, tensor in network.state_dict().items():
        if name.endswith("running_var"):
            tensor.uniform_(0.5, 2, generator=generator)
        elif tensor.is_floating_point():
            tensor.normal_(0, 0.2, generator=generator)
    return network.state_dict()


def images() -> Tensor:
    return torch.randn(3, 1, 28, 28, generator=torch.Generator().manual_seed(2))


def convolve(w: Weights, name: str, x: Tensor, padding: int = 0) -> Tensor:
    return F.conv2d(x, w[f"{name}.weight"], w.get(f"{name}.bias"), padding=padding)


def normalize(w: Weights, name: str, x: Tensor) -> Tensor:
    if f"{name}.weight" not in w:
        return x
    mean, variance, weight, bias = (
        w[f"{name}.{part}"].view(-1, 1, 1) for part in ("running_mean", "running_var", "weight", "bias")
    )
    return (x - mean) / torch.sqrt(variance + 1e-5) * weight + bias


def residual_block(w: Weights, name: str, x: Tensor) -> Tensor:
    y = normalize(w, f"{name}.bn1", convolve(w, f"{name}.conv1", x, padding=1)).clamp(min=0)
    y = normalize(w, f"{name}.bn2", convolve(w, f"{name}.conv2", y, padding=1))
    return (x + y).clamp(min=0)


def residual_logits(w: Weights, x: Tensor) -> Tensor:
    for i in ("1", "2"):
        x = normalize(w, f"bn{i}", convolve(w, f"conv{i}", x)).clamp(min=0)
        x = residual_block(w, f"block{i}", F.max_pool2d(x, 2))
    return x.reshape(len(x), 512) @ w["fc.weight"].T + w["fc.bias"]


def inception(w: Weights, name: str, x: Tensor) -> Tensor:
    five = convolve(w, f"{name}.branch5x5.0", x).clamp(min=0)
    three = convolve(w, f"{name}.branch3x3.0", x).clamp(min=0)
    three = convolve(w, f"{name}.branch3x3.2", three, padding=1).clamp(min=0)
    branches = [
        convolve(w, f"{name}.branch1x1", x),
        convolve(w, f"{name}.branch5x5.2", five, padding=2),
        convolve(w, f"{name}.branch3x3.4", three, padding=1),
        convolve(w, f"{name}.branch_pool.1", F.avg_pool2d(x, 3, stride=1, padding=1)),
    ]
    return torch.cat(branches, dim=1).clamp(min=0)


def inception_logits(w: Weights, x: Tensor) -> Tensor:
    for i in ("1", "2"):
        x = F.max_pool2d(convolve(w, f"conv{i}", x), 2).clamp(min=0)
        x = inception(w, f"inception{i}", x)
    return x.reshape(len(x), 1408) @ w["fc.weight"].T + w["fc.bias"]


def test_parameter_counts():
    assert count_parameters(ResidualNet()) == 41_514
    assert count_parameters(InceptionNet()) == 97_298
    biases, norms = 2 * (16 + 16 + 16) + 2 * (32 + 32 + 32), 16 + 16 + 16 + 32 + 32 + 32
    assert count_parameters(ResidualNet(batch_norm=True)) == 41_514 - norms + biases


@pytest.mark.parametrize("batch_norm", [False, True])
def test_residual_net_computes_what_its_definition_says(batch_norm: bool):
    network = ResidualNet(batch_norm=batch_norm).eval()
    weights = randomize(network)
    assert any("running_mean" in name for name in weights) == batch_norm
    torch.testing.assert_close(network(images()), residual_logits(weights, images()), rtol=1e-4, atol=1e-3)


def test_inception_net_computes_what_its_definition_says():
    network = InceptionNet().eval()
    weights = randomize(network)
    torch.testing.assert_close(network(images()), inception_logits(weights, images()), rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("network", [ResidualNet(3), ResidualNet(3, batch_norm=True), InceptionNet(3)])
def test_class_count(network: torch.nn.Module):
    assert network(images()).shape == (3, 3)


def test_state_dict_keys_are_what_released_weights_have():
    convolutions = ["conv1", "block1.conv1", "block1.conv2", "conv2", "block2.conv1", "block2.conv2", "fc"]
    expected = [f"{name}.{part}" for name in convolutions for part in ("weight", "bias")]
    assert list(ResidualNet().state_dict()) == expected
    branches = ["branch1x1", *("branch5x5.0", "branch5x5.2"), *(f"branch3x3.{i}" for i in (0, 2, 4)), "branch_pool.1"]
    names = ["conv1", *(f"inception1.{b}" for b in branches), "conv2", *(f"inception2.{b}" for b in branches), "fc"]
    assert list(InceptionNet().state_dict()) == [f"{name}.{part}" for name in names for part in ("weight", "bias")]
