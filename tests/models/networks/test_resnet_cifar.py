"""The CIFAR networks against the same networks put together from torchvision's blocks, and the paper's counts."""

import math

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.models.resnet import BasicBlock

from models.networks import resnet_cifar
from tests.models.networks.references import NoShortcut, randomize_norms
from tests.networks import count_parameters

DEPTHS = [20, 32, 44, 56, 110]
PARAMETERS = {
    "A": [269_722, 464_154, 658_586, 853_018, 1_727_962],
    "B": [272_474, 466_906, 661_338, 855_770, 1_730_714],
    "plain": [269_722, 464_154, 658_586, 853_018, 1_727_962],
}
KINDS = list(PARAMETERS)


def build(kind: str, depth: int, classes: int = 10) -> nn.Module:
    if kind == "plain":
        return resnet_cifar.plain(depth, classes)
    return resnet_cifar.resnet(depth, classes, shortcut=kind)


class SubsampleAndPad(nn.Module):
    """Option A in other words: 1x1 pooling with stride 2, then zero channels behind."""

    def forward(self, x: Tensor) -> Tensor:
        x = F.avg_pool2d(x, 1, stride=2)
        return torch.cat([x, torch.zeros_like(x)], dim=1)


def reference_block(kind: str, channels: int, out_channels: int) -> nn.Module:
    stride = out_channels // channels
    if kind == "plain":
        downsample: nn.Module | None = NoShortcut()
    elif stride == 1:
        downsample = None
    elif kind == "A":
        downsample = SubsampleAndPad()
    else:
        downsample = nn.Sequential(
            nn.Conv2d(channels, out_channels, 1, stride=2, bias=False), nn.BatchNorm2d(out_channels)
        )
    return BasicBlock(channels, out_channels, stride, downsample)


def reference(kind: str, depth: int, classes: int) -> nn.Sequential:
    """The paper's stack, n blocks of torchvision's for each of three stages."""
    network = nn.Sequential()
    network.add_module("conv1", nn.Conv2d(3, 16, 3, padding=1, bias=False))
    network.add_module("bn1", nn.BatchNorm2d(16))
    network.add_module("relu", nn.ReLU())
    channels = 16
    for number, width in enumerate((16, 32, 64), start=1):
        blocks = nn.Sequential()
        for _ in range((depth - 2) // 6):
            blocks.append(reference_block(kind, channels, width))
            channels = width
        network.add_module(f"layer{number}", blocks)
    network.add_module("avgpool", nn.AdaptiveAvgPool2d(1))
    network.add_module("flatten", nn.Flatten())
    network.add_module("fc", nn.Linear(64, classes))
    return network


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("depth", "classes"), [(20, 10), (32, 100), (44, 10), (56, 10), (110, 10)])
def test_computes_what_torchvisions_blocks_compute(kind: str, depth: int, classes: int):
    torch.manual_seed(0)
    network, expected = build(kind, depth, classes), reference(kind, depth, classes)
    randomize_norms(network)
    expected.load_state_dict(network.state_dict())
    assert list(network.state_dict()) == list(expected.state_dict())
    images = torch.randn(4, 3, 32, 32)
    for training in (True, False):
        with torch.no_grad():
            logits = network.train(training)(images)
            assert torch.equal(logits, expected.train(training)(images))
        assert not torch.equal(logits[0], logits[1])


@pytest.mark.parametrize("kind", KINDS)
def test_parameter_counts(kind: str):
    assert [count_parameters(build(kind, depth)) for depth in DEPTHS] == PARAMETERS[kind]


@pytest.mark.parametrize("build", [resnet_cifar.resnet, resnet_cifar.plain])
def test_width_is_that_of_the_first_stage_and_doubles_twice(build):
    network = build(8, width=4)
    convolutions = [module.out_channels for module in network.modules() if isinstance(module, nn.Conv2d)]
    assert convolutions == [4, 4, 4, 8, 8, 16, 16]
    assert network(torch.randn(2, 3, 16, 16)).shape == (2, 10)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("depth", DEPTHS)
def test_as_many_layers_run_as_the_name_says(kind: str, depth: int):
    calls: list[nn.Module] = []
    with torch.device("meta"):
        network = build(kind, depth)
        for name, module in network.named_modules():
            if isinstance(module, nn.Conv2d | nn.Linear) and "downsample" not in name:
                module.register_forward_hook(lambda module, *_: calls.append(module))
        network(torch.empty(2, 3, 32, 32))
    assert len(calls) == len(set(calls)) == depth


@pytest.mark.parametrize("kind", KINDS)
def test_every_weight_of_a_block_matters(kind: str):
    torch.manual_seed(0)
    network = build(kind, 20)
    F.cross_entropy(network(torch.randn(8, 3, 32, 32)), torch.arange(8)).backward()
    idle = [name for name, p in network.named_parameters() if p.grad is None or not p.grad.any()]
    assert idle == []


def test_a_residual_block_without_its_convolutions_is_its_shortcut():
    network = resnet_cifar.resnet(20).eval()
    x = torch.rand(2, 16, 32, 32)
    for block in (network.layer1[1], network.layer2[0]):
        nn.init.zeros_(block.conv2.weight)
    assert torch.equal(network.layer1[1](x), x)
    assert torch.equal(network.layer2[0](x), SubsampleAndPad()(x))


def test_a_plain_block_without_its_convolutions_is_nothing():
    block = resnet_cifar.plain(20).eval().layer1[1]
    nn.init.zeros_(block.conv2.weight)
    assert not block(torch.rand(2, 16, 32, 32)).any()


def test_initial_weights_have_he_variance():
    torch.manual_seed(0)
    for name, parameter in resnet_cifar.resnet(56, shortcut="B").named_parameters():
        if parameter.dim() > 1:
            expected = math.sqrt(2 / parameter[0].numel())
            assert parameter.std().item() == pytest.approx(expected, rel=4 / math.sqrt(2 * parameter.numel())), name


@pytest.mark.parametrize("depth", [2, 18, 21])
def test_depth_must_be_6n_plus_2(depth: int):
    with pytest.raises(ValueError, match="6n"):
        resnet_cifar.resnet(depth)
