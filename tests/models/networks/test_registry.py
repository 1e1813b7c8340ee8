"""Every name builds the network that it says, and wrong names and arguments say what there is."""

import pytest
import torch

from models.networks import registry, resnet, resnet_cifar
from models.networks.mnist import InceptionNet, ResidualNet
from models.networks.registry import ArchitectureError, MisfitError

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
    assert registry.describe("resnet20").arguments["shortcut"] == ("A", "B")
    assert "layer2.0.downsample.0.weight" in registry.build("resnet20", shortcut="B").state_dict()
    assert "layer2.0.downsample.0.weight" not in registry.build("resnet20", shortcut="A").state_dict()
    for name in MNIST + IMAGENET + CIFAR[5:]:
        assert "shortcut" not in registry.describe(name).arguments


@pytest.mark.parametrize("name", ["resnet18", "plain18", "resnet50", "resnet20", "plain20"])
def test_networks_for_photographs_take_grey_ones_too(name: str):
    network = registry.build(name, in_channels="1")
    channels, height, width = registry.describe(name).shape_with({"in_channels": "1"})
    assert (channels, height, width) == (1, *registry.describe(name).input_shape[1:])
    assert network(torch.zeros(2, channels, height, width)).shape == (2, registry.describe(name).classes)
    assert registry.describe(name).shape_with({}) == registry.describe(name).input_shape


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
        ("resnet18", {"shortcut": "B"}, "resnet18 has no argument 'shortcut'. There are: in_channels"),
        ("mnist-residual", {"batch_norm": "yes"}, "takes no arguments"),
    ],
)
def test_a_wrong_argument_says_what_is_right(name: str, arguments: dict[str, str], message: str):
    with pytest.raises(ArchitectureError, match=message):
        registry.build(name, **arguments)


def test_a_network_has_at_least_one_class():
    with pytest.raises(ArchitectureError, match="1 or more"):
        registry.build("resnet20", classes=0)


def test_a_network_with_weights_answers_as_the_one_they_come_from_and_leaves_them_as_they_are():
    source = registry.build("resnet20", classes=7, shortcut="B").eval()
    weights, images = source.state_dict(), torch.randn(2, 3, 32, 32)
    kept = {key: value.clone() for key, value in weights.items()}
    random = torch.get_rng_state()
    network = registry.build_with_weights("resnet20", weights, classes=7, shortcut="B").eval()
    assert torch.equal(torch.get_rng_state(), random)
    assert torch.equal(network(images), source(images))
    for parameter in network.parameters():
        assert parameter.requires_grad
        parameter.data.zero_()
    assert all(torch.equal(value, kept[key]) for key, value in weights.items())


def test_weights_in_half_precision_make_a_network_in_fp32():
    halves = registry.build("mnist-residual").half().state_dict()
    network = registry.build_with_weights("mnist-residual", halves)
    assert {parameter.dtype for parameter in network.parameters()} == {torch.float32}
    assert all(torch.equal(value.float(), network.state_dict()[name]) for name, value in halves.items())


def test_weights_without_the_counters_of_batch_norm_are_taken():
    kept = registry.build("mnist-residual-bn").state_dict()
    bare = {name: value for name, value in kept.items() if not name.endswith("num_batches_tracked")}
    state = registry.build_with_weights("mnist-residual-bn", bare).state_dict()
    assert len(bare) < len(kept) == len(state)
    assert all(not state[name] for name in kept.keys() - bare.keys())


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"fc.bias": None}, 'Missing key.*"fc.bias"'),
        ({"fc2.bias": torch.zeros(10)}, 'Unexpected key.*"fc2.bias"'),
        ({"fc.bias": torch.zeros(11)}, "size mismatch for fc.bias"),
    ],
)
def test_weights_of_another_network_are_named(changes: dict[str, torch.Tensor | None], complaint: str):
    weights = registry.build("mnist-residual").state_dict() | changes
    with pytest.raises(MisfitError, match=f"(?s){complaint}"):
        registry.build_with_weights("mnist-residual", {k: v for k, v in weights.items() if v is not None})


def test_weights_for_an_unknown_network_are_an_unknown_network():
    with pytest.raises(ArchitectureError, match="did you mean 'resnet50'"):
        registry.build_with_weights("ResNet-50", {})


def test_parse_arguments():
    assert registry.parse_arguments([]) == {}
    assert registry.parse_arguments(["shortcut=B", "note=a=b"]) == {"shortcut": "B", "note": "a=b"}


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["shortcut"], "'shortcut' is not of the form key=value"),
        (["=B"], "'=B' is not of the form key=value"),
        (["shortcut="], "'shortcut=' is not of the form key=value"),
        (["a=1", "a=2"], "argument 'a' is given twice"),
        (["classes=5"], "the class count is no argument: leave it out"),
    ],
)
def test_a_word_that_is_no_argument_is_told(words: list[str], complaint: str):
    with pytest.raises(ArchitectureError, match=complaint):
        registry.parse_arguments(words)
