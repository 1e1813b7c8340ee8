"""What a network is made of: each layer's output, parameters and work."""

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn


@dataclass(frozen=True, slots=True)
class LayerRow:
    """One call of one layer: its output's shape without the batch, and the multiply-adds for one image."""

    name: str
    kind: str
    output_shape: tuple[int, ...]
    parameters: int
    multiply_adds: int


def profile_layers(network: nn.Module, input_shape: Sequence[int]) -> list[LayerRow]:
    """Return a row for each layer, in the order of execution, of a network given one float image of that shape.

    A copy on the meta device runs: nothing is computed, and the network stays as it is. Layers are modules without
    children; nn.Identity is left out. Multiply-adds are those of convolutions and linear layers, without bias, as
    torchvision and the ResNet paper count them.
    """
    rows: list[LayerRow] = []
    twin = copy.deepcopy(network).to("meta").eval()
    for name, module in twin.named_modules():
        if not (any(module.children()) or isinstance(module, nn.Identity)):
            module.register_forward_hook(_recorder(name, rows))
    with torch.inference_mode():
        twin(torch.empty(1, *input_shape, device="meta"))
    return rows


def _recorder(name: str, rows: list[LayerRow]) -> Callable[[nn.Module, tuple[Tensor, ...], Tensor], None]:
    def record(module: nn.Module, _: tuple[Tensor, ...], output: Tensor) -> None:
        parameters = sum(parameter.numel() for parameter in module.parameters())
        shape = tuple(output.shape[1:])
        rows.append(LayerRow(name, type(module).__name__, shape, parameters, _multiply_adds(module, output)))

    return record


def _multiply_adds(module: nn.Module, output: Tensor) -> int:
    """Each output value of a convolution or linear layer takes one multiply-add for each weight that leads to it."""
    if isinstance(module, nn.Conv2d | nn.Linear):
        return output.numel() * module.weight[0].numel()
    return 0
