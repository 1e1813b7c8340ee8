"""The ImageNet networks against torchvision's: the same weights, the same images, the same logits."""

import pytest
import torch
import torchvision
from torch import Tensor, nn

from models.networks import resnet
from tests.models.networks.references import NoShortcut, randomize_norms
from tests.networks import count_parameters


def torchvision_resnet(depth: int, classes: int) -> nn.Module:
    return torchvision.models.get_model(f"resnet{depth}", weights=None, num_classes=classes)


def torchvision_plain(depth: int, classes: int) -> nn.Module:
    network = torchvision_resnet(depth, classes)
    for block in network.modules():
        if isinstance(block, torchvision.models.resnet.BasicBlock):
            block.downsample = NoShortcut()
    return network


def assert_same_function(network: nn.Module, reference: nn.Module, images: Tensor) -> None:
    """Bit for bit, since the same operations run in the same order: in training, after it, and in evaluation."""
    randomize_norms(reference)
    network.load_state_dict(reference.state_dict())
    assert list(network.state_dict()) == list(reference.state_dict())
    for training in (True, False):
        with torch.no_grad():
            logits = network.train(training)(images)
            expected = reference.train(training)(images)
        assert torch.equal(logits, expected)
        assert logits.isfinite().all()
        assert not torch.equal(logits[0], logits[1])
    for name, tensor in reference.state_dict().items():
        assert torch.equal(network.state_dict()[name], tensor), name


@pytest.fixture
def images() -> Tensor:
    torch.manual_seed(0)
    return torch.randn(2, 3, 65, 90)  # odd and not square: no stride or padding gets by


@pytest.mark.parametrize("classes", [1000, 7])
@pytest.mark.parametrize("depth", [18, 34, 50, 101, 152])
def test_resnet_is_torchvisions(depth: int, classes: int, images: Tensor):
    assert_same_function(resnet.resnet(depth, classes), torchvision_resnet(depth, classes), images)


@pytest.mark.parametrize("depth", [18, 34])
def test_plain_is_torchvisions_without_shortcuts(depth: int, images: Tensor):
    assert_same_function(resnet.plain(depth, 7), torchvision_plain(depth, 7), images)


@pytest.mark.parametrize("depth", [18, 34, 50, 101, 152])
def test_parameter_counts_are_the_published_ones(depth: int):
    published = torchvision.models.get_model_weights(f"resnet{depth}")["IMAGENET1K_V1"].meta["num_params"]
    with torch.device("meta"):
        network = resnet.resnet(depth)
    assert count_parameters(network) == published


@pytest.mark.parametrize("depth", [18, 50])
def test_initial_weights_are_spread_like_torchvisions(depth: int):
    torch.manual_seed(0)
    expected = torchvision_resnet(depth, 1000).state_dict()
    for name, tensor in resnet.resnet(depth).state_dict().items():
        if tensor.dim() > 1:
            torch.testing.assert_close(tensor.std(), expected[name].std(), rtol=0.05, atol=0)
        else:
            assert name == "fc.bias" or torch.equal(tensor, expected[name]), name


def test_a_bottleneck_strides_in_its_3x3_convolution():
    strides = {
        name: module.stride
        for name, module in resnet.resnet(50).layer2[0].named_modules()
        if isinstance(module, nn.Conv2d)
    }
    assert strides == {"conv1": (1, 1), "conv2": (2, 2), "conv3": (1, 1), "downsample.0": (2, 2)}


@pytest.mark.parametrize("depth", [50, 101])
def test_there_is_no_plain_network_of_bottlenecks(depth: int):
    with pytest.raises(KeyError):
        resnet.plain(depth)
