"""Other people's weights in a network of ours: the same function, under torchvision's names."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor, nn

from models.networks import registry
from training.errors import WeightsError
from training.loop.trained_network import HEAD, build_network, in_head
from training.options import ZeroChannels
from training.weights import variants
from training.weights.candidates import COUNTER, Candidate, find_candidates
from training.weights.named_tensors import NESTED, named_tensors
from training.weights.stand_ins import StandIn

_FIRST_STAGE = 16
"""Channels of a CIFAR network's first stage (He et al., section 4.2)."""

_ONNX = "export it with torch.onnx.export, and import that file"
_FOREIGN = f"the weights fit no network that this project knows; name it with --arch if it is one, else {_ONNX}"

_MOST_NAMED = 4
"""Keys of each kind that an error names at most."""


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
    architecture = architecture or _only_fitting(named.tensors, prefix)
    candidate, notes = _choose(named.tensors, architecture, prefix)
    weights = {name: _plain(name, tensor) for name, tensor in candidate.weights.items()}
    arguments, has_head = _arguments(weights, architecture), f"{HEAD}.weight" in weights
    if has_head and f"{HEAD}.bias" not in weights:
        weights[f"{HEAD}.bias"] = torch.zeros(len(weights[f"{HEAD}.weight"]))
    if has_one_output := has_head and len(weights[f"{HEAD}.weight"]) == 1:
        weights |= {
            name: torch.cat([torch.zeros_like(weights[name]), weights[name]]) for name in filter(in_head, weights)
        }
        notes.append("its one output z became two logits, 0 and z: the first label is for z below 0")
    if not has_head:
        if fresh_classes is None:
            raise WeightsError(f"{architecture} has no last layer there: give --labels for a fresh one, to be trained")
        notes.append(
            "ITS LAST LAYER IS FRESH, for the file has none: it answers by chance until `fit --from` trains it"
        )
    if broken := [key for key, value in weights.items() if not value.isfinite().all()]:
        raise WeightsError(
            f"not finite numbers: {_names(broken)}; the training that made them diverged, give an earlier checkpoint"
        )
    _check_zero_channels(architecture, arguments, zero_channels)
    ordered = _carried_first(weights) if zero_channels == "both" else weights
    classes = _classes(weights) or fresh_classes or 0
    network = build_network(architecture, arguments, classes, ordered, lambda name: _is_initial(name, weights))
    _check_settings(network, candidate, named.settings)
    return Adopted(
        network.eval(), architecture, arguments, classes, has_one_output, not has_head, tuple(notes), named.networks
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
    return f"no state dict is there; the file holds {_names(map(str, _keys(content))) or 'nothing'}"


def _keys(content: object) -> Iterable[object]:
    return content if isinstance(content, Mapping) else [type(content).__name__]


def _choose(tensors: Mapping[str, Tensor], architecture: str, prefix: str | None) -> tuple[Candidate, list[str]]:
    """The weights to take, and what is to be said of them; averaged ones go before others."""
    found = _within(find_candidates(tensors, _wanted(architecture)), prefix)
    problems = [_misfits(candidate, architecture) for candidate in found]
    fitting = [candidate for candidate, problem in zip(found, problems, strict=True) if not problem]
    if not fitting:
        raise WeightsError(
            f"the weights do not fit {architecture}: {'; '.join(problems[0])}. {_hint(tensors, found[0], prefix)}"
        )
    chosen = [candidate for candidate in fitting if candidate.is_averaged] or fitting
    if any(not _are_equal(chosen[0], other) for other in chosen[1:]):
        places = ", ".join(candidate.place for candidate in chosen)
        raise WeightsError(f"{architecture} is there {len(chosen)} times, under {places}: choose one with --prefix")
    candidate = chosen[0]
    return candidate, list(_notes(candidate, [other.place for other in fitting if other not in chosen]))


def _notes(candidate: Candidate, others: list[str]) -> Iterable[str]:
    if candidate.is_averaged:
        rest = f", not the raw ones of {', '.join(others)}" if others else ""
        yield f"averaged weights, of {candidate.place}{rest}"
    elif candidate.prefix:
        yield f"weights of {candidate.place}"
    if candidate.head and candidate.head != f"{candidate.prefix}{HEAD}":
        yield f"last layer {candidate.head.replace(NESTED, '.')}"
    if candidate.left_out:
        yield f"left out, for it is not the network's: {_names(candidate.left_out)}"


def _within(found: list[Candidate], prefix: str | None) -> list[Candidate]:
    if chosen := _under(found, prefix):
        return chosen
    raise WeightsError(f"no network is under {prefix!r}, but under {', '.join(each.place for each in found)}")


def _under(found: list[Candidate], prefix: str | None) -> list[Candidate]:
    if prefix is None:
        return found
    return [each for each in found if f"{each.place}.".startswith(f"{prefix.rstrip('.')}.")]


def _are_equal(one: Candidate, other: Candidate) -> bool:
    return one.weights.keys() == other.weights.keys() and all(
        torch.equal(value, other.weights[name]) for name, value in one.weights.items()
    )


def _only_fitting(tensors: Mapping[str, Tensor], prefix: str | None) -> str:
    fitting = _fitting(tensors, prefix)
    if len(fitting) == 1:
        return fitting[0]
    if fitting:
        raise WeightsError(f"the weights fit {' and '.join(fitting)}: say which it is with --arch")
    nearest = _nearest(tensors, prefix) or next(iter(_fitting(tensors, None)), None)
    if nearest is None:
        raise WeightsError(_FOREIGN)
    return nearest  # which says why they do not fit, or where else it is


def _fitting(tensors: Mapping[str, Tensor], prefix: str | None) -> list[str]:
    """The networks of the registry that the weights fit."""
    return [
        name
        for name in registry.names()
        if any(not _misfits(each, name) for each in _under(find_candidates(tensors, _wanted(name)), prefix))
    ]


def _nearest(tensors: Mapping[str, Tensor], prefix: str | None) -> str | None:
    """The network of the registry that misses the fewest weights, None if it misses half of its own."""
    found = {name: _under(find_candidates(tensors, _wanted(name)), prefix) for name in registry.names()}
    counts = {
        name: min(sum(map(len, _misfitting(each, name).values())) for each in candidates)
        for name, candidates in found.items()
        if candidates
    }
    if not counts:
        return None
    nearest = min(counts, key=lambda name: counts[name])
    return nearest if counts[nearest] < len(_wanted(nearest)) / 2 else None


@cache
def _wanted(architecture: str, classes: int = 0, **arguments: str) -> dict[str, tuple[int, ...]]:
    """Names and shapes of a network's weights."""
    with torch.device("meta"):
        network = registry.build(architecture, classes=classes or None, **arguments)
    return {key: tuple(value.shape) for key, value in network.state_dict().items()}


def _arguments(weights: Mapping[str, Tensor], architecture: str) -> dict[str, str]:
    """What the weights tell: option B has weights of its own, option A has none; grey pictures have one channel."""
    taken, arguments = registry.describe(architecture).arguments, {}
    if "shortcut" in taken:
        arguments["shortcut"] = "B" if any(".downsample." in key for key in weights) else "A"
    first = weights.get("conv1.weight")
    if "in_channels" in taken and first is not None and first.ndim == 4 and first.shape[1] == 1:
        arguments["in_channels"] = "1"
    return arguments


def _classes(weights: Mapping[str, Tensor]) -> int:
    """How many, if there is a last layer; 0 if not."""
    weight = weights.get(f"{HEAD}.weight")
    return 0 if weight is None or not weight.ndim else len(weight)


def _misfits(candidate: Candidate, architecture: str) -> list[str]:
    """What keeps these weights out of the network, each kind of trouble with its first keys."""
    return [f"{kind}: {_names(keys)}" for kind, keys in _misfitting(candidate, architecture).items() if keys]


def _misfitting(candidate: Candidate, architecture: str) -> dict[str, list[str]]:
    """The keys of each kind of trouble."""
    weights = candidate.weights
    wanted = _wanted(architecture, _classes(weights), **_arguments(weights, architecture))
    given = {key: tuple(value.shape) for key, value in weights.items()}
    missing = [key for key in wanted if key not in given and not key.endswith(COUNTER) and not in_head(key)]
    extra = [key for key in given if key not in wanted]
    shapes = [
        f"{key} {list(given[key])} for {list(wanted[key])}"
        for key in given
        if given[key] != wanted.get(key, given[key])
    ]
    return {"missing": missing, "not its own": extra, "of another shape": shapes}


def _hint(tensors: Mapping[str, Tensor], candidate: Candidate, prefix: str | None) -> str:
    if fitting := _fitting(tensors, prefix):
        return f"They fit {', '.join(fitting)}"
    return _unknown(candidate)


def _unknown(candidate: Candidate) -> str:
    known = variants.difference_of_weights({key: tuple(value.shape) for key, value in candidate.weights.items()})
    told = f"Their network {known}" if known else "They fit no network that this project knows"
    return f"{told}; {_ONNX}"


def _names(keys: Iterable[str]) -> str:
    keys = list(keys)
    rest = f" and {len(keys) - _MOST_NAMED} more" if len(keys) > _MOST_NAMED else ""
    return ", ".join(keys[:_MOST_NAMED]) + rest


def _check_settings(network: nn.Module, candidate: Candidate, settings: Mapping[int, Mapping[str, object]]) -> None:
    """WeightsError if a layer of a network that was pickled as a whole computes otherwise than ours."""
    for name, layer in network.named_modules():
        told = settings.get(id(candidate.weights.get(f"{name}.weight")), {})
        for key, value in told.items():
            if (ours := getattr(layer, key, value)) != value:
                raise WeightsError(f"its network is another: {name} has {key} {value}, and ours has {ours}; {_ONNX}")


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
    if (head := f"{HEAD}.weight") in weights:
        ordered[head] = weights[head][:, order]
    return ordered
