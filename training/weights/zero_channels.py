"""Where the shortcuts of option A add their zero channels, which weights do not tell (He et al., section 3.3)."""

from collections.abc import Mapping

import torch
from torch import Tensor

from training.errors import WeightsError
from training.loop.trained_network import HEAD
from training.options import ZeroChannels

_FIRST_STAGE = 16
"""Channels of a CIFAR network's first stage (He et al., section 4.2)."""


def check_zero_channels(architecture: str, arguments: Mapping[str, str], zero_channels: ZeroChannels | None) -> None:
    """WeightsError if it is not told where the zeros of option A are, or told of shortcuts that have none."""
    if (arguments.get("shortcut") == "A") == (zero_channels is not None):
        return
    if zero_channels is not None:
        raise WeightsError(f"--zero-channels is for shortcuts of option A, and this {architecture} has none")
    raise WeightsError(
        f"this {architecture} has shortcuts of option A, and its weights do not tell where these add their zero "
        "channels: give --zero-channels both for the layout of akamaster/pytorch_resnet_cifar10 (half before, half "
        "after the carried channels), --zero-channels end for networks of this project (all after them)"
    )


def carried_first(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
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
    if (head := f"{HEAD}.weight") in weights:
        ordered[head] = weights[head][:, order]
    return ordered
