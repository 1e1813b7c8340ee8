"""Other people's CIFAR networks, written here as they write them: adopted, they must compute the same."""

import re
from collections.abc import Callable
from contextlib import nullcontext as does_not_raise
from io import BytesIO
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import timm
import torch
import torchvision
from torch import Tensor, nn
from transformers import ResNetConfig, ResNetForImageClassification

from training.errors import WeightsError
from training.weights.conversion import Adopted, adopt
from training.weights.stand_ins import load_inert


class ZeroPadded(nn.Module):
    """Option A: `before` zero channels, every second pixel of every channel, zeros up to `out_channels`."""

    def __init__(self, out_channels: int, before: int) -> None:
        super().__init__()
        self.out_channels, self.before = out_channels, before

    def forward(self, x: Tensor) -> Tensor:
        kept = x[:, :, ::2, ::2]
        padded = kept.new_zeros(len(x), self.out_channels, *kept.shape[2:])
        padded[:, self.before : self.before + kept.shape[1]] = kept
        return padded


class Block(nn.Module):
    def __init__(self, channels: int, out_channels: int, option: str) -> None:
        super().__init__()
        stride = out_channels // channels
        self.conv1 = nn.Conv2d(channels, out_channels, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(out_channels)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(out_channels)
        self.shortcut: nn.Module = nn.Sequential()
        if stride == 2 and option == "B":
            projection = nn.Conv2d(channels, out_channels, 1, stride, bias=False)
            self.shortcut = nn.Sequential(projection, nn.BatchNorm2d(out_channels))
        elif stride == 2:
            self.shortcut = ZeroPadded(out_channels, {"A, end": 0, "A, both": out_channels // 4}[option])

    def forward(self, x: Tensor) -> Tensor:
        out = torch.relu(self.bn1(self.conv1(x)))
        return torch.relu(self.bn2(self.conv2(out)) + self.shortcut(x))


class Net(nn.Module):
    """In the layout of akamaster/pytorch_resnet_cifar10."""

    def __init__(self, option: str, blocks: int = 3, classes: int = 10) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 16, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        widths = [16] + [16] * blocks + [32] * blocks + [64] * blocks
        chain = [Block(*pair, option) for pair in pairwise(widths)]
        self.layer1 = nn.Sequential(*chain[:blocks])
        self.layer2 = nn.Sequential(*chain[blocks : 2 * blocks])
        self.layer3 = nn.Sequential(*chain[2 * blocks :])
        self.linear = nn.Linear(64, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.layer3(self.layer2(self.layer1(torch.relu(self.bn1(self.conv1(x))))))
        logits: Tensor = self.linear(x.mean((2, 3)))
        return logits


def net(option: str, **sizes: int) -> Net:
    torch.manual_seed(0)
    network = Net(option, **sizes)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):  # as if trained: no two channels are alike
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, 0, 0.2)
            nn.init.normal_(module.running_mean, 0, 0.2)
            nn.init.uniform_(module.running_var, 0.5, 1.5)
    return network.eval()


def images() -> Tensor:
    return torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(1))


def as_saved_by_old_pytorch(network: nn.Module) -> dict[str, Any]:
    state = nn.DataParallel(network).state_dict()
    kept = {key: value for key, value in state.items() if not key.endswith("num_batches_tracked")}
    return {"state_dict": kept, "best_prec1": 91.7, "epoch": 200}


@pytest.mark.parametrize(
    ("option", "shortcut", "zero_channels"), [("A, both", "A", "both"), ("A, end", "A", "end"), ("B", "B", None)]
)
@pytest.mark.parametrize("depth", [20, 32])
def test_an_adopted_network_computes_what_its_source_does(depth, option, shortcut, zero_channels):
    source = net(option, blocks=(depth - 2) // 6, classes=7)
    adopted = adopt(as_saved_by_old_pytorch(source), f"resnet{depth}", zero_channels)
    assert (adopted.arguments, adopted.classes) == ({"shortcut": shortcut}, 7)
    with torch.no_grad():
        torch.testing.assert_close(adopted.network(images()), source(images()), rtol=1e-4, atol=1e-5)


def test_where_zeros_are_added_makes_another_network():
    source = net("A, both")
    wrong = adopt(source.state_dict(), "resnet20", "end").network
    with torch.no_grad():
        difference = (wrong(images()) - source(images())).abs().max()
    assert difference > 0.05


@pytest.mark.parametrize("name", [None, "state_dict", "model_state_dict", "model", "net"])
@pytest.mark.parametrize("prefix", ["", "module.", "_orig_mod.module.", "1."])
def test_the_layouts_of_torchvisions_names(name: str | None, prefix: str):
    source = torchvision.models.resnet18(num_classes=5).eval()
    state: dict[str, Any] = {prefix + key: value for key, value in source.state_dict().items()}
    content = {name: state, "epoch": 3, "optimizer": {"state": {}}} if name else state
    adopted = adopt(content, "resnet18", None)
    assert adopted.classes == 5
    for key, value in source.state_dict().items():
        assert torch.equal(adopted.network.state_dict()[key], value), key


def test_tensors_of_other_kinds_are_refused():
    for odd in (torch.ones(16).to_sparse(), torch.ones(16, dtype=torch.complex64), torch.ones(16, device="meta")):
        with pytest.raises(WeightsError, match=r"bn1\.weight is a quantized, sparse, complex or empty tensor"):
            adopt(changed(bn1__weight=odd), "resnet20")
    with pytest.raises(WeightsError, match=r"^bn1\.weight is of whole numbers \(int8\); needed are plain floats"):
        adopt(changed(bn1__weight=torch.ones(16, dtype=torch.int8)), "resnet20")


def test_half_precision_is_widened():
    source = net("B").half()
    adopted = adopt(source.state_dict(), "resnet20", None)
    assert torch.equal(adopted.network.state_dict()["fc.weight"], source.linear.weight.float())


def changed(**changes: Tensor | None) -> dict[str, Tensor]:
    state = net("B").state_dict() | {key.replace("__", "."): value for key, value in changes.items()}
    return {key: value for key, value in state.items() if value is not None}


@pytest.mark.parametrize(
    ("content", "architecture", "message"),
    [
        (changed(), "resnet32", r"do not fit resnet32: missing: layer1\.3\.conv1\.weight, .* They fit resnet20"),
        (changed(), "plain20", r"not its own: layer2\.0\.downsample\.0\.weight, .* They fit resnet20"),
        (changed(), "resnet18", r"missing: layer4\..* of another shape: conv1\.weight \[16, 3, 3, 3\] for \[64, 3, 7"),
        (changed(bn1__weight=None), "resnet20", r"missing: bn1\.weight\. They fit no network"),
        (changed(head__weight=torch.ones(1)), "resnet20", r"not its own: head\.weight\. They fit no network"),
        (changed(linear__bias=torch.ones(9)), "resnet20", r"of another shape: fc\.bias \[9\] for \[10\]"),
        (changed(linear__bias=torch.full([10], torch.nan)), "resnet20", r"not finite numbers: fc\.bias"),
        (changed(conv1__weight=torch.ones(16, 4, 3, 3)), "resnet20", "takes other pictures than grey and colour ones"),
        (torch.ones(3), "resnet20", "holds a Tensor, not a state dict"),
        ({"epoch": 1, "weight": "none"}, "resnet20", "the file holds epoch, weight"),
        ({}, "resnet20", "no state dict"),
        ({"format_version": 1, "architecture": "resnet20", "weights": {}}, "resnet20", "resnet-train export"),
    ],
)
def test_what_does_not_fit_is_named(content: object, architecture: str, message: str):
    with pytest.raises(WeightsError, match=message):
        adopt(content, architecture, None)


def test_kernels_of_zeros_are_told():
    emptied = changed(conv1__weight=torch.zeros(16, 3, 3, 3))
    assert any("NOTHING BUT ZEROS: conv1.weight;" in note for note in adopt(emptied, "resnet20", None).notes)


def test_arrays_of_numpy_are_named():
    torch.save({"fc.weight": np.ones((3, 64))}, stream := BytesIO())
    content, _ = load_inert(stream.getvalue())
    with pytest.raises(WeightsError, match=r"NumPy's arrays; save them as PyTorch's: .*torch\.from_numpy"):
        adopt(content, "resnet20", None)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda net: setattr(net.layer4[0].conv2, "dilation", (2, 2)), r"layer4\.0\.conv2 has dilation \(2, 2\)"),
        (lambda net: setattr(net.bn1, "eps", 1e-3), r"bn1 has eps 0\.001, and ours has 1e-05; export it"),
    ],
)
def test_a_pickled_network_that_computes_otherwise_is_told_by_its_layer(change: Callable[[nn.Module], None], told: str):
    network = torchvision.models.resnet18(num_classes=3)
    for expected in (does_not_raise(), pytest.raises(WeightsError, match=told)):
        torch.save({"model": network}, stream := BytesIO())
        with expected:
            adopt(load_inert(stream.getvalue())[0], "resnet18", None)
        change(network)


def settled(network: nn.Module) -> nn.Module:
    """Batch norms as if trained: of fresh ones the order of the channels, and some mistakes, would not show."""
    torch.manual_seed(0)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.uniform_(module.running_var, 0.5, 1.5)
    return network.eval()


def assert_answers_as(adopted: Adopted, source: nn.Module, channels: int = 3) -> None:
    pictures = torch.randn(2, channels, 32, 32, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        expected = source(pictures)
        expected = getattr(expected, "logits", expected)
        torch.testing.assert_close(adopted.network(pictures), expected, rtol=1e-4, atol=1e-4)


def test_transformers_own_network_answers_as_in_transformers():
    sizes = {"depths": [2, 2, 2, 2], "hidden_sizes": [64, 128, 256, 512], "layer_type": "basic"}
    source = settled(ResNetForImageClassification(ResNetConfig(**sizes, num_labels=5)))
    adopted = adopt(source.state_dict(), None)
    assert (adopted.architecture, adopted.classes) == ("resnet18", 5)
    assert_answers_as(adopted, source)
    assert adopt(source.resnet.state_dict(), None, fresh_classes=5).has_fresh_head


def test_timms_own_network_answers_as_in_timm():
    source = settled(timm.create_model("resnet18", num_classes=5))
    adopted = adopt({"state_dict": source.state_dict(), "arch": "resnet18", "version": 2}, None)
    assert (adopted.architecture, adopted.networks) == ("resnet18", ("resnet18",))
    assert_answers_as(adopted, source)


def openmmlab(network: nn.Module) -> dict[str, Any]:
    """As OpenMMLab's runners save an ImageClassifier: body and head apart."""
    state = network.state_dict()
    return {
        "meta": {"epoch": 100},
        "state_dict": {
            ("head." if key.startswith("fc.") else "backbone.") + key: value for key, value in state.items()
        },
    }


def lightning(network: nn.Module) -> dict[str, Any]:
    """As Lightning saves a module with the network, its loss and a metric in it."""
    state = {f"model.{key}": value for key, value in network.state_dict().items()}
    beside = {"criterion.weight": torch.ones(5), "metric.confusion": torch.zeros(5, 5)}
    return {"state_dict": state | beside, "epoch": 3, "loops": {"fit_loop": {"state_dict": {}}}}


def separate_head(network: nn.Module) -> dict[str, Any]:
    """As own modules do, with `self.backbone` and `self.classifier = Sequential(Dropout, Linear)`."""
    state = network.state_dict()
    head = {f"net.classifier.1.{kind}": state[f"fc.{kind}"] for kind in ("weight", "bias")}
    return {f"net.backbone.{key}": value for key, value in state.items() if not key.startswith("fc.")} | head


def numbered(network: nn.Module) -> dict[str, Any]:
    """As own modules do, with `self.features = Sequential(*list(resnet.children())[:-1])` and a last layer."""
    features = nn.Sequential(*list(network.children())[:-1])
    return nn.ModuleDict({"features": features, "classifier": network.get_submodule("fc")}).state_dict()


def apart(network: nn.Module) -> dict[str, Any]:
    """As scripts that train a head on a frozen body do: a state dict for each."""
    body = {key: value for key, value in network.state_dict().items() if not key.startswith("fc.")}
    return {"encoder": body, "head": network.get_submodule("fc").state_dict()}


@pytest.mark.parametrize(
    ("layout", "told"),
    [
        (numbered, ["weights of features", "last layer classifier"]),
        (lambda network: nn.Sequential(*network.children()).state_dict(), ["last layer 9"]),
        (apart, ["weights of encoder", "last layer head"]),
        (openmmlab, ["weights of state_dict.backbone", "last layer state_dict.head.fc"]),
        (lightning, ["weights of state_dict.model", "left out, .*: criterion.weight, metric.confusion"]),
        (separate_head, ["weights of net.backbone", "last layer net.classifier.1"]),
        (lambda network: {"module": network.state_dict(), "epoch": 3}, ["weights of module"]),
        (lambda network: {"checkpoint": {"model": network.state_dict()}}, ["weights of checkpoint.model"]),
        (lambda network: [network.state_dict(), {"epoch": 3}], ["weights of 0"]),
    ],
)
def test_the_networks_own_names_tell_where_it_is(layout: Callable[[nn.Module], Any], told: list[str]):
    source = settled(torchvision.models.resnet18(num_classes=5))
    adopted = adopt(layout(source), None)
    assert adopted.classes == 5
    assert all(re.fullmatch(line, note) for line, note in zip(told, adopted.notes, strict=True)), adopted.notes
    assert_answers_as(adopted, source)


@pytest.mark.parametrize(
    ("raw", "averaged"),
    [
        ("state_dict", "state_dict_ema"),
        ("model", "model_ema"),
        ("state_dict.model", "state_dict.ema_model.module"),
        ("params", "params_ema"),
    ],
)
def test_averaged_weights_go_before_raw_ones_and_are_named(raw: str, averaged: str):
    first, second = net("B"), net("B")
    second.linear.weight.data += 1
    content: dict[str, Any] = {}
    for place, source in ((raw, first), (averaged, second)):
        outer, _, prefix = place.partition(".")
        state = {f"{prefix}.{key}" if prefix else key: value for key, value in source.state_dict().items()}
        content[outer] = content.get(outer, {}) | state
    adopted = adopt(content, "resnet20")
    assert torch.equal(adopted.network.get_parameter("fc.weight"), second.linear.weight)
    assert adopted.notes[0] == f"averaged weights, of {averaged}, not the raw ones of {raw}"
    chosen = adopt(content, "resnet20", prefix=raw)
    assert torch.equal(chosen.network.get_parameter("fc.weight"), first.linear.weight)


@pytest.mark.parametrize("architecture", ["resnet20", None])
def test_two_networks_of_one_file_are_not_chosen_between(architecture: str | None):
    states = {"student": net("B").state_dict(), "teacher": {k: v + 1 for k, v in net("B").state_dict().items()}}
    content = {"networks": {f"{name}.{key}": value for name, state in states.items() for key, value in state.items()}}
    with pytest.raises(WeightsError, match=r"2 times, under networks\.student, networks\.teacher: choose one"):
        adopt(content, architecture)
    adopted = adopt(content, architecture, prefix="networks.teacher")
    assert adopted.notes == ("weights of networks.teacher", "last layer networks.teacher.linear")
    with pytest.raises(WeightsError, match=r"is under 'tutor', but under networks\.student, networks\.teacher"):
        adopt(content, architecture, prefix="tutor")
    assert adopt({"a": states["student"], "b": dict(states["student"])}, architecture).classes == 10


@pytest.mark.parametrize(
    ("head", "message"),
    [
        (nn.Sequential(nn.Dropout(0.5), nn.Linear(64, 5)), None),
        (nn.Sequential(nn.Linear(64, 5, bias=False)), None),
        (
            nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 5)),
            r"head of 2 linear layers \(linear\.0 64 to 32",
        ),
        (nn.Sequential(nn.BatchNorm1d(64), nn.Linear(64, 5)), r"last layer linear\.1 stands a norm \(linear\.0"),
    ],
)
def test_a_head_of_one_linear_layer_is_taken_and_others_are_named(head: nn.Sequential, message: str | None):
    source = net("B")
    source.linear = head.eval()
    if message:
        with pytest.raises(WeightsError, match=message):
            adopt(source.state_dict(), "resnet20")
    else:
        assert_answers_as(adopt(source.state_dict(), "resnet20"), source)


def test_a_neck_between_body_and_head_is_no_head():
    body = {f"backbone.{key}": value for key, value in net("B").state_dict().items() if "linear" not in key}
    neck = {"neck.weight": torch.ones(32, 64), "head.weight": torch.ones(5, 32)}
    with pytest.raises(WeightsError, match=r"head of 2 linear layers \(neck 64 to 32, head 32 to 5\)"):
        adopt(body | neck, "resnet20")


def test_one_output_is_two_classes():
    source = net("B", classes=1)
    adopted = adopt(source.state_dict(), "resnet20")
    assert (adopted.classes, adopted.has_one_output) == (2, True)
    with torch.inference_mode():
        probability = adopted.network(images()).softmax(1)[:, 1]
        torch.testing.assert_close(probability, source(images())[:, 0].sigmoid())


def test_grey_pictures_are_told_by_the_first_layer():
    source = settled(timm.create_model("resnet18", num_classes=5, in_chans=1))
    adopted = adopt(source.state_dict(), "resnet18")
    assert adopted.arguments == {"in_channels": "1"}
    assert_answers_as(adopted, source, channels=1)


def test_a_body_without_head_gets_one_only_if_asked_and_says_so_loudly():
    body = {key: value for key, value in net("B").state_dict().items() if "linear" not in key}
    with pytest.raises(WeightsError, match="no last layer there: give --labels for a fresh one"):
        adopt(body, "resnet20")
    adopted = adopt(body, "resnet20", fresh_classes=3)
    assert (adopted.classes, adopted.has_fresh_head) == (3, True)
    assert any("LAST LAYER IS FRESH" in note for note in adopted.notes)
    assert torch.equal(adopted.network.get_parameter("conv1.weight"), net("B").conv1.weight)


def test_a_body_whose_zeros_are_on_both_sides_gets_a_fresh_head_too():
    body = {key: value for key, value in net("A, both").state_dict().items() if "linear" not in key}
    headless, whole = (
        adopt(body, "resnet20", "both", fresh_classes=3),
        adopt(net("A, both").state_dict(), "resnet20", "both"),
    )
    assert (headless.classes, headless.has_fresh_head) == (3, True)
    weights = whole.network.state_dict()
    assert all(
        torch.equal(value, weights[name]) for name, value in headless.network.state_dict().items() if "fc" not in name
    )


@pytest.mark.parametrize(
    ("name", "ours", "told"),
    [
        ("resnet18d", "resnet18", "another stem"),
        ("seresnet50", "resnet50", "attention in its blocks"),
        ("resnext50_32x4d", "resnet50", "grouped convolutions"),
        ("wide_resnet50_2", "resnet50", "wider inside"),
        ("resnet50_gn", "resnet50", "group norm"),
    ],
)
def test_timms_variants_of_another_function_are_named(name: str, ours: str, told: str):
    with torch.device("meta"):
        state = timm.create_model(name).state_dict()
    state = {key: torch.zeros(()).expand(value.shape) for key, value in state.items()}
    with pytest.raises(WeightsError, match=f"do not fit {ours}.*Their network .*{told}"):
        adopt(state, ours)


def test_the_architecture_is_found_if_only_one_fits():
    assert adopt(net("B").state_dict(), None).architecture == "resnet20"
    with pytest.raises(WeightsError, match=r"fit resnet20 and plain20: say which it is with --arch"):
        adopt(net("A, end").state_dict(), None, "end")
    with pytest.raises(WeightsError, match=r"fit no network that this project knows; .*torch\.onnx\.export"):
        adopt({"weight": torch.ones(2)}, None)


def test_a_network_that_is_nearly_one_of_ours_is_told_from_it_without_its_name():
    for_cifar = torchvision.models.resnet18(num_classes=3)
    for_cifar.conv1 = nn.Conv2d(3, 64, 3, padding=1, bias=False)
    with pytest.raises(WeightsError, match=r"another stem, a 3x3 convolution .* torch\.onnx\.export"):
        adopt({f"module.{name}": tensor for name, tensor in for_cifar.state_dict().items()}, None)
    with pytest.raises(WeightsError, match=r"do not fit resnet20: missing: layer1\.0\.bn1\.bias\. They fit no"):
        adopt(changed(layer1__0__bn1__bias=None), None)


def test_option_a_needs_to_be_told_where_its_zeros_are():
    with pytest.raises(WeightsError, match=r"--zero-channels both .* --zero-channels end"):
        adopt(net("A, both").state_dict(), "resnet20", None)
    with pytest.raises(WeightsError, match="has none"):
        adopt(net("B").state_dict(), "resnet20", "end")
