"""Other people's weights in a network of ours: the same function, under torchvision's names."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from training.errors import WeightsError
from training.loop.trained_network import HEAD, build_network, in_head
from training.options import ZeroChannels
from training.weights.candidates import COUNTER, Candidate
from training.weights.named_tensors import named_tensors
from training.weights.registry_match import (
    TO_ONNX,
    arguments_of,
    choose_weights,
    count_outputs,
    find_architecture,
    first_keys,
)
from training.weights.stand_ins import StandIn
from training.weights.zero_channels import carried_first, check_zero_channels


@dataclass(frozen=True, slots=True)
class Adopted:
    """A network in evaluation mode with other people's weights, and what these say of it.

    Attributes:
        network: of the registry, with the architecture and arguments.
        architecture: its name.
        arguments: what the weights tell of it: the kind of shortcut, the channels of pictures.
        classes: two where the origin has one output z: the logits are 0 and z.
        has_one_output: whether that is so.
        has_fresh_head: whether the last layer is untrained.
        notes: lines for people: what was taken, what was left.
        networks: names that the file gives its network.

    """

    network: nn.Module
    architecture: str
    arguments: dict[str, str]
    classes: int
    has_one_output: bool
    has_fresh_head: bool
    notes: tuple[str, ...]
    networks: tuple[str, ...]


def adopt(
    content: object,
    architecture: str | None,
    zero_channels: ZeroChannels | None = None,
    *,
    prefix: str | None = None,
    fresh_classes: int | None = None,
) -> Adopted:
    """Put the weights that a file holds into a network of the registry; WeightsError if they do not fit.

    They tell the class count, the kind of shortcut and the channels of pictures, and the architecture, unless it is
    given. `zero_channels` is what they cannot tell: whether a shortcut of option A has its zeros after the channels
    that it carries, or half before and half after them. `prefix` chooses between several networks of one file. A body
    without a head gets a fresh one if `fresh_classes` are given.
    """
    _check_content(content)
    named = named_tensors(content)
    if not named.tensors:
        raise WeightsError(_no_tensors(content))
    architecture = architecture or find_architecture(named.tensors, prefix)
    candidate, notes = choose_weights(named.tensors, architecture, prefix)
    weights = {name: _plain(name, tensor) for name, tensor in candidate.weights.items()}
    arguments, outputs = arguments_of(weights, architecture), count_outputs(weights)
    if not outputs and fresh_classes is None:
        raise WeightsError(f"{architecture} has no last layer there: give --labels for a fresh one, to be trained")
    _check_finite(weights)
    check_zero_channels(architecture, arguments, zero_channels)
    if outputs:
        weights = _with_our_head(weights)
    if zero_channels == "both":
        weights = carried_first(weights)
    classes = count_outputs(weights) or fresh_classes or 0
    network = build_network(architecture, arguments, classes, weights, lambda name: _is_initial(name, weights))
    _check_settings(network, candidate, named.settings)
    return Adopted(
        network.eval(),
        architecture,
        arguments,
        classes,
        has_one_output=outputs == 1,
        has_fresh_head=not outputs,
        notes=(*notes, *_notes_of_zeros(weights), *_notes_of_head(outputs)),
        networks=named.networks,
    )


def _with_our_head(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The last layer as ours are: with a bias, and with two outputs, 0 and z, in the place of the only one, z."""
    weight = weights[f"{HEAD}.weight"]
    bias = weights.get(f"{HEAD}.bias", torch.zeros(len(weight)))
    if len(weight) == 1:
        weight, bias = (torch.cat([torch.zeros_like(values), values]) for values in (weight, bias))
    return {**weights, f"{HEAD}.weight": weight, f"{HEAD}.bias": bias}


def _notes_of_head(outputs: int) -> Iterable[str]:
    if outputs == 1:
        yield "its one output z became two logits, 0 and z: the first label is for z below 0"
    if not outputs:
        yield "ITS LAST LAYER IS FRESH, for the file has none: it answers by chance until `fit --from` trains it"


def _notes_of_zeros(weights: Mapping[str, Tensor]) -> Iterable[str]:
    if empty := [key for key, value in weights.items() if value.ndim == 4 and not value.any()]:
        yield f"NOTHING BUT ZEROS: {first_keys(empty)}; fetch the file again unless they were pruned"


def _check_finite(weights: Mapping[str, Tensor]) -> None:
    if broken := [key for key, value in weights.items() if not value.isfinite().all()]:
        raise WeightsError(
            f"not finite numbers: {first_keys(broken)}; the training that made them diverged, give an earlier "
            "checkpoint"
        )


def _plain(name: str, tensor: Tensor) -> Tensor:
    """The tensor in fp32 if it is of floats; WeightsError if it is of a kind that networks in fp32 do not have."""
    if tensor.is_quantized or tensor.is_meta or tensor.is_complex() or tensor.layout != torch.strided:
        raise WeightsError(f"{name} is a quantized, sparse, complex or empty tensor; needed are plain floats")
    if name.endswith(COUNTER):
        return tensor.detach()
    if not tensor.is_floating_point():
        raise WeightsError(
            f"{name} is of whole numbers ({str(tensor.dtype).removeprefix('torch.')}); needed are plain floats: give "
            "the weights from before they were quantized"
        )
    return tensor.detach().float()


def _is_initial(name: str, weights: Mapping[str, Tensor]) -> bool:
    return name not in weights and (name.endswith(COUNTER) or in_head(name))


def _check_content(content: object) -> None:
    if not isinstance(content, Mapping | list | tuple | StandIn):
        raise WeightsError(
            f"the file holds a {type(content).__name__}, not a state dict: it needs names and their tensors"
        )
    if isinstance(content, Mapping) and {"format_version", "architecture", "weights"} <= content.keys():
        raise WeightsError("this is a checkpoint of resnet-train itself: release it with `resnet-train export`")


def _no_tensors(content: object) -> str:
    if isinstance(content, Mapping) and any(type(value).__module__.startswith("numpy") for value in content.values()):
        return (
            "its weights are NumPy's arrays; save them as PyTorch's: "
            "torch.save({name: torch.from_numpy(array) for name, array in weights.items()}, ...)"
        )
    return f"no state dict is there; the file holds {first_keys(map(str, _keys(content))) or 'nothing'}"


def _keys(content: object) -> Iterable[object]:
    return content if isinstance(content, Mapping) else [type(content).__name__]


def _check_settings(network: nn.Module, candidate: Candidate, settings: Mapping[int, Mapping[str, object]]) -> None:
    """WeightsError if a layer of a network that was pickled as a whole computes otherwise than ours."""
    for name, layer in network.named_modules():
        told = settings.get(id(candidate.weights.get(f"{name}.weight")), {})
        for key, value in told.items():
            if (ours := getattr(layer, key, value)) != value:
                raise WeightsError(f"its network is another: {name} has {key} {value}, and ours has {ours}; {TO_ONNX}")
