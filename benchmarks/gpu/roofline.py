"""The least time that a network can take, from what a machine was seen to do (Williams, Waterman and Patterson, 2009).

Each convolution reads and writes its tensors once, a pooling too, an addition reads the shortcut; batch norm and ReLU
cost nothing. A layer takes the longer of its arithmetic and its memory traffic; where the L2 cache holds a tensor, a
run can beat the line.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from models.networks import registry

_BYTES = {"tf32": 4, "fp32": 4, "bf16": 2, "fp16": 2}


@dataclass(frozen=True, slots=True)
class LayerCost:
    """Operations and values read and written for one image, and weights read for a batch."""

    operations: float
    values: int
    weights: int


def layer_costs(name: str) -> list[LayerCost]:
    """Of a network, by its forward pass without memory."""
    found: list[LayerCost] = []

    def note(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        weight = module.weight
        assert isinstance(weight, Tensor)
        operations = 2.0 * output.numel() * math.prod(weight.shape[1:])
        found.append(LayerCost(operations, inputs[0].numel() + output.numel(), weight.numel()))

    def note_traffic(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        read = inputs[0].numel() if isinstance(module, nn.MaxPool2d) else 0
        found.append(LayerCost(0.0, output.numel() + read, 0))

    with torch.device("meta"):
        network = registry.build(name).eval()
        for module in network.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                module.register_forward_hook(note)
            elif isinstance(module, nn.MaxPool2d) or hasattr(module, "downsample"):
                module.register_forward_hook(note_traffic)
        network(torch.empty(1, *registry.describe(name).input_shape))
    return found


def line(costs: Sequence[LayerCost], precision: str, batch: int, flops: float, bytes_per_s: float) -> float:
    """Images a second in batches of this size at best."""
    width = _BYTES[precision]
    seconds = sum(
        max(batch * cost.operations / flops, width * (batch * cost.values + cost.weights) / bytes_per_s)
        for cost in costs
    )
    return batch / seconds
