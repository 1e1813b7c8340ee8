"""Every name builds the network that it says, and wrong names and arguments say what there is."""

import pytest
import torch

from models.networks import registry, resnet, resnet_cifar
from models.networks.mnist import InceptionNet, ResidualNet
from models.networks.registry import ArchitectureError

MNIST = ["mnist-residual", "mnist-residual-bn", "mnist-inception"]
IMAGENET = ["resnet18", "resnet34", "resnet50", "resnet101", "resnet152", "plain18", "plain34"]
CIFAR = [f"{kind}{depth}" for kind in ("resnet", "plain") for depth in (20, 32, 44, 56, 110)]
EXPECTED = {
    "mnist-residual": ResidualNet,
    "mnist-residual-bn": lambda: ResidualNet(batch_norm=True),
    "mnist-inception": InceptionNet,
    "resnet18": lambda: resnet.resnet(18),
    "resnet50": lambda: resnet.resnet(50),
    "resnet152": lambda: resnet.resnet(152),
    "plain34": lambda: resnet.plain(34),
    "resnet20": lambda: resnet_cifar.resnet(20, shortcut="A"),
    "resnet110": lambda: resnet_cifar.resnet(110, shortcut="A"),
    "plain56": lambda: resnet_cifar.plain(56),
}


def test_names_are_those_promised():
    assert sorted(registry.names()) == sorted(MNIST + IMAGENET + CIFAR)


@pytest.mark.parametrize(
    ("names", "shape", "classes"), [(MNIST, (1, 28, 28), 10), (IMAGENET, (3, 224, 224), 1000), (CIFAR, (3, 32, 32), 10)]
)
def test_every_network_keeps_its_contract(names: list[str], shape: tuple[int, int, int], classes: int):
    for name in names:
        architecture = registry.describe(name)
        assert (architecture.name, architecture.input_shape, architecture.classes) == (name, shape, classes)
        with torch.device("meta"):
            images = torch.empty(2, *shape)
            assert registry.build(name)(images).shape == (2, classes)
            assert registry.build(name, classes=7)(images).shape == (2, 7)


@pytest.mark.parametrize("name", EXPECTED)
def test_a_name_builds_its_own_network(name: str):
    with torch.device("meta"):
        assert str(registry.build(name)) == str(EXPECTED[name]())


def test_shortcut_is_an_argument_of_the_cifar_resnets():
    assert registry.describe("resnet20").arguments == {"shortcut": ("A", "B")}
    assert "layer2.0.downsample.0.weight" in registry.build("resnet20", shortcut="B").state_dict()
    assert "layer2.0.downsample.0.weight" not in registry.build("resnet20", shortcut="A").state_dict()
    for name in MNIST + IMAGENET + CIFAR[5:]:
        assert registry.describe(name).arguments == {}


def test_an_unknown_name_gets_a_suggestion_and_the_list():
    with pytest.raises(ArchitectureError, match="did you mean 'resnet50'") as error:
        registry.build("ResNet-50")
    for name in registry.names():
        assert name in str(error.value)


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("resnet20", {"shortcut": "C"}, "shortcut is 'C', must be one of A, B"),
        ("resnet20", {"shortcuts": "B"}, "no argument 'shortcuts', did you mean 'shortcut'"),
        ("resnet18", {"shortcut": "B"}, "resnet18 takes no arguments, got 'shortcut'"),
        ("mnist-residual", {"batch_norm": "yes"}, "takes no arguments"),
    ],
)
def test_a_wrong_argument_says_what_is_right(name: str, arguments: dict[str, str], message: str):
    with pytest.raises(ArchitectureError, match=message):
        registry.build(name, **arguments)


def test_a_network_has_at_least_one_class():
    with pytest.raises(ArchitectureError, match="1 or more"):
        registry.build("resnet20", classes=0)


def test_parse_arguments():
    assert registry.parse_arguments([]) == {}
    assert registry.parse_arguments(["shortcut=B", "note=a=b"]) == {"shortcut": "B", "note": "a=b"}


@pytest.mark.parametrize("words", [["shortcut"], ["=B"], ["shortcut="], ["a=1", "a=2"], ["classes=5"]])
def test_parse_arguments_refuses(words: list[str]):
    with pytest.raises(ArchitectureError):
        registry.parse_arguments(words)
