"""Other people's CIFAR networks, written here as they write them: adopted, they must compute the same."""

from itertools import pairwise
from typing import Any

import pytest
import torch
import torchvision
from torch import Tensor, nn

from training.errors import WeightsError
from training.weights.conversion import adopt


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
        (changed(linear__bias=torch.ones(9)), "resnet20", r"of another shape: fc\.weight \[10, 64\] for \[9, 64\]"),
        (changed(linear__bias=torch.full([10], torch.nan)), "resnet20", r"not finite numbers: fc\.bias"),
        (torch.ones(3), "resnet20", "holds a Tensor, not a state dict"),
        ({"epoch": 1, "weight": "none"}, "resnet20", "the file holds epoch, weight"),
        ({}, "resnet20", "no state dict"),
        ({"format_version": 1, "architecture": "resnet20", "weights": {}}, "resnet20", "resnet-train export"),
    ],
)
def test_what_does_not_fit_is_named(content: object, architecture: str, message: str):
    with pytest.raises(WeightsError, match=message):
        adopt(content, architecture, None)


def test_option_a_needs_to_be_told_where_its_zeros_are():
    with pytest.raises(WeightsError, match=r"--zero-channels both .* --zero-channels end"):
        adopt(net("A, both").state_dict(), "resnet20", None)
    with pytest.raises(WeightsError, match="has none"):
        adopt(net("B").state_dict(), "resnet20", "end")
