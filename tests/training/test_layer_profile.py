"""Counts of layers against torchvision's metadata, the reference figures and torch's own counter."""

import pytest
import torch
import torchvision
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from models.networks import registry
from tests.networks import count_parameters
from training.layer_profile import LayerRow, profile_layers


def rows_of(name: str) -> list[LayerRow]:
    with torch.device("meta"):
        return profile_layers(registry.build(name), registry.describe(name).input_shape)


def multiply_adds(rows: list[LayerRow]) -> int:
    return sum(row.multiply_adds for row in rows)


@pytest.mark.parametrize("name", ["resnet18", "resnet34", "resnet50", "resnet101", "resnet152"])
def test_imagenet_totals_are_torchvisions(name: str):
    meta = torchvision.models.get_model_weights(name)["IMAGENET1K_V1"].meta
    rows = rows_of(name)
    assert sum(row.parameters for row in rows) == meta["num_params"]
    assert round(multiply_adds(rows) / 1e9, 3) == meta["_ops"]


@pytest.mark.parametrize(("depth", "millions"), [(20, 40.6), (32, 68.9), (44, 97.2), (56, 125.5), (110, 252.9)])
def test_cifar_totals(depth: int, millions: float):
    assert round(multiply_adds(rows_of(f"resnet{depth}")) / 1e6, 1) == millions
    assert round(multiply_adds(rows_of(f"plain{depth}")) / 1e6, 1) == millions


@pytest.mark.parametrize("name", registry.names())
def test_totals_are_those_of_torchs_own_counter(name: str):
    with torch.device("meta"):
        network = registry.build(name)
        with FlopCounterMode(display=False) as counter:
            network(torch.empty(1, *registry.describe(name).input_shape))
    rows = rows_of(name)
    assert 2 * multiply_adds(rows) == counter.get_total_flops()
    assert sum(row.parameters for row in rows) == count_parameters(network)


def test_rows_in_order_of_execution():
    assert rows_of("mnist-residual") == [
        LayerRow("conv1", "Conv2d", (16, 24, 24), 16 * 25 + 16, 24 * 24 * 16 * 25),
        LayerRow("maxpool", "MaxPool2d", (16, 12, 12), 0, 0),
        LayerRow("block1.conv1", "Conv2d", (16, 12, 12), 16 * 16 * 9 + 16, 12 * 12 * 16 * 16 * 9),
        LayerRow("block1.conv2", "Conv2d", (16, 12, 12), 16 * 16 * 9 + 16, 12 * 12 * 16 * 16 * 9),
        LayerRow("conv2", "Conv2d", (32, 8, 8), 32 * 16 * 25 + 32, 8 * 8 * 32 * 16 * 25),
        LayerRow("maxpool", "MaxPool2d", (32, 4, 4), 0, 0),
        LayerRow("block2.conv1", "Conv2d", (32, 4, 4), 32 * 32 * 9 + 32, 4 * 4 * 32 * 32 * 9),
        LayerRow("block2.conv2", "Conv2d", (32, 4, 4), 32 * 32 * 9 + 32, 4 * 4 * 32 * 32 * 9),
        LayerRow("fc", "Linear", (10,), 512 * 10 + 10, 512 * 10),
    ]


def test_a_grouped_convolution_sees_only_its_group():
    rows = profile_layers(nn.Sequential(nn.Conv2d(8, 16, 3, groups=4, bias=False)), (8, 5, 5))
    assert rows == [LayerRow("0", "Conv2d", (16, 3, 3), 16 * 2 * 9, 3 * 3 * 16 * 2 * 9)]


def test_the_network_stays_as_it_is():
    network = registry.build("mnist-residual-bn").train()
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    profile_layers(network, (1, 28, 28))
    assert all(module.training and not module._forward_hooks for module in network.modules())
    after = network.state_dict()
    assert all(torch.equal(after[name], tensor) for name, tensor in before.items())
