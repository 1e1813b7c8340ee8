"""Other people's weights: common layouts of state dicts, converted to ours, which is torchvision's.

`akamaster/pytorch_resnet_cifar10` says `linear` for `fc` and `shortcut` for `downsample`, wrappers put `module.` before
every key, training scripts nest the state dict, and PyTorch before 0.4.1 kept no `num_batches_tracked`.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TypeGuard

import torch
from torch import Tensor, nn

from models.networks import registry
from training.errors import WeightsError
from training.loop.trained_network import build_network
from training.options import ZeroChannels

_NESTED_UNDER = ("state_dict", "model_state_dict", "model", "net")
"""Names under which training scripts keep the state dict."""

_RENAMED = {"linear": "fc", "shortcut": "downsample"}
"""Our name for each part of theirs."""

_COUNTER = "num_batches_tracked"
"""Name of a norm's count of batches, which old files lack and evaluation does not read."""

_FIRST_STAGE = 16
"""Channels of a CIFAR network's first stage (He et al., section 4.2)."""

_MOST_NAMED = 4
"""Keys of each kind that an error names at most."""


@dataclass(frozen=True, slots=True)
class Adopted:
    """A network in evaluation mode with other people's weights, and what these say of it."""

    network: nn.Module
    arguments: dict[str, str]
    classes: int


def adopt(content: object, architecture: str, zero_channels: ZeroChannels | None) -> Adopted:
    """Put the weights that a file holds into a network of the registry; WeightsError if they do not fit.

    They tell the class count and the kind of shortcut. `zero_channels` is what they cannot tell: whether a shortcut of
    option A has its zeros after the channels that it carries, or half before and half after them.
    """
    weights = _canonical(_state_dict(content))
    arguments, classes = _arguments(weights, architecture), _classes(weights, architecture)
    if problems := _misfits(weights, architecture):
        raise WeightsError(f"the weights do not fit {architecture}: {'; '.join(problems)}. {_hint(weights)}")
    if broken := [key for key, value in weights.items() if not value.isfinite().all()]:
        raise WeightsError(f"not finite numbers: {_names(broken)}; the training that made them has diverged")
    _check_zero_channels(architecture, arguments, zero_channels)
    ordered = _carried_first(weights) if zero_channels == "both" else weights
    network = build_network(
        architecture, arguments, classes, ordered, lambda name: name.endswith(_COUNTER) and name not in weights
    )
    return Adopted(network.eval(), arguments, classes)


def _state_dict(content: object) -> Mapping[str, Tensor]:
    """The mapping from names to tensors: the content itself, or what it nests under a usual name."""
    if _is_state_dict(content):
        return content
    if not isinstance(content, Mapping):
        raise WeightsError(f"the file holds a {type(content).__name__}, not a state dict: names and their tensors")
    if {"format_version", "architecture", "weights"} <= content.keys():
        raise WeightsError("this is a checkpoint of resnet-train itself: release it with `resnet-train export`")
    for name in _NESTED_UNDER:
        if _is_state_dict(nested := content.get(name)):
            return nested
    raise WeightsError(
        f"no state dict is there, nor under {', '.join(_NESTED_UNDER)}; the file holds {_names(map(str, content))}"
    )


def _is_state_dict(content: object) -> TypeGuard[Mapping[str, Tensor]]:
    return (
        isinstance(content, Mapping)
        and bool(content)
        and all(isinstance(key, str) and isinstance(value, Tensor) for key, value in content.items())
    )


def _canonical(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The same tensors under our names, without the prefixes of what the network was wrapped in."""
    while all("." in key for key in weights) and len({key.partition(".")[0] for key in weights}) == 1:
        weights = {key.partition(".")[2]: value for key, value in weights.items()}
    return {".".join(_RENAMED.get(part, part) for part in key.split(".")): value for key, value in weights.items()}


def _arguments(weights: Mapping[str, Tensor], architecture: str) -> dict[str, str]:
    """Option B has weights of its own, option A has none."""
    if "shortcut" not in registry.describe(architecture).arguments:
        return {}
    return {"shortcut": "B" if any(".downsample." in key for key in weights) else "A"}


def _classes(weights: Mapping[str, Tensor], architecture: str) -> int:
    bias = weights.get("fc.bias")
    return registry.describe(architecture).classes if bias is None or not bias.numel() else bias.numel()


def _misfits(weights: Mapping[str, Tensor], architecture: str) -> list[str]:
    """What keeps these weights out of the network, each kind of trouble with its first keys."""
    with torch.device("meta"):
        network = registry.build(
            architecture, classes=_classes(weights, architecture), **_arguments(weights, architecture)
        )
    wanted = {key: list(value.shape) for key, value in network.state_dict().items()}
    given = {key: list(value.shape) for key, value in weights.items()}
    missing = [key for key in wanted if key not in given and not key.endswith(_COUNTER)]
    extra = [key for key in given if key not in wanted]
    shapes = [f"{key} {given[key]} for {wanted[key]}" for key in given if given[key] != wanted.get(key, given[key])]
    kinds = {"missing": missing, "not its own": extra, "of another shape": shapes}
    return [f"{kind}: {_names(keys)}" for kind, keys in kinds.items() if keys]


def _hint(weights: Mapping[str, Tensor]) -> str:
    fitting = [name for name in registry.names() if not _misfits(weights, name)]
    return f"They fit {', '.join(fitting)}" if fitting else "They fit no network that this project knows"


def _names(keys: Iterable[str]) -> str:
    keys = list(keys)
    rest = f" and {len(keys) - _MOST_NAMED} more" if len(keys) > _MOST_NAMED else ""
    return ", ".join(keys[:_MOST_NAMED]) + rest


def _check_zero_channels(architecture: str, arguments: Mapping[str, str], zero_channels: ZeroChannels | None) -> None:
    if (arguments.get("shortcut") == "A") == (zero_channels is not None):
        return
    if zero_channels is not None:
        raise WeightsError(f"--zero-channels is for shortcuts of option A, and this {architecture} has none")
    raise WeightsError(
        f"this {architecture} has shortcuts of option A, and its weights do not tell where these add their zero "
        "channels: give --zero-channels both for the layout of akamaster/pytorch_resnet_cifar10 (half before, half "
        "after the carried channels), --zero-channels end for networks of this project (all after them)"
    )


def _carried_first(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The weights of a network that computes the same, with its channels in another order: all zeros come last.

    The order of the channels between blocks is free, as long as the layers that write and read them keep to it.
    """
    ordered = dict(weights)
    order = torch.arange(_FIRST_STAGE)
    for stage in ("layer2", "layer3"):
        carried, half = len(order), len(order) // 2
        read, order = order, torch.cat([half + order, torch.arange(half), torch.arange(half + carried, 2 * carried)])
        for key in (key for key in weights if key.startswith(f"{stage}.")):
            block, layer = key.split(".")[1:3]
            if layer in ("conv2", "bn2") and weights[key].ndim:
                ordered[key] = weights[key][order]
            elif layer == "conv1":
                ordered[key] = weights[key][:, read if block == "0" else order]
    ordered["fc.weight"] = weights["fc.weight"][:, order]
    return ordered
