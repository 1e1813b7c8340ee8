"""Which network of the registry the weights in a file are, and what keeps them out of another."""

from collections.abc import Iterable, Mapping
from functools import cache

import torch
from torch import Tensor

from models.networks import registry
from training.errors import WeightsError
from training.loop.trained_network import HEAD, in_head
from training.weights import variants
from training.weights.candidates import COUNTER, Candidate, find_candidates
from training.weights.named_tensors import NESTED

TO_ONNX = "export it with torch.onnx.export, and import that file"
"""What to do with a network that is none of the registry."""

_FOREIGN = f"the weights fit no network that this project knows; name it with --arch if it is one, else {TO_ONNX}"

_MOST_NAMED = 4
"""Keys of each kind that an error names at most."""


def find_architecture(tensors: Mapping[str, Tensor], prefix: str | None) -> str:
    """The only network that the weights fit, else the nearest, which says why not; WeightsError if there is none."""
    fitting = _fitting(tensors, prefix)
    if len(fitting) == 1:
        return fitting[0]
    if fitting:
        raise WeightsError(f"the weights fit {' and '.join(fitting)}: say which it is with --arch")
    nearest = _nearest(tensors, prefix) or next(iter(_fitting(tensors, None)), None)
    if nearest is None:
        raise WeightsError(_FOREIGN)
    return nearest  # `choose_weights` says why they do not fit, or where else it is


def choose_weights(tensors: Mapping[str, Tensor], architecture: str, prefix: str | None) -> tuple[Candidate, list[str]]:
    """The weights to take, and what is to be said of them; averaged ones go before others. WeightsError if none fit."""
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


def arguments_of(weights: Mapping[str, Tensor], architecture: str) -> dict[str, str]:
    """What the weights tell: option B has weights of its own, option A has none; grey pictures have one channel."""
    taken, arguments = registry.describe(architecture).arguments, {}
    if "shortcut" in taken:
        arguments["shortcut"] = "B" if any(".downsample." in key for key in weights) else "A"
    first = weights.get("conv1.weight")
    if "in_channels" in taken and first is not None and first.ndim == 4 and first.shape[1] == 1:
        arguments["in_channels"] = "1"
    return arguments


def count_outputs(weights: Mapping[str, Tensor]) -> int:
    """Outputs of the last layer; 0 if there is none."""
    weight = weights.get(f"{HEAD}.weight")
    return 0 if weight is None or not weight.ndim else len(weight)


def first_keys(keys: Iterable[str]) -> str:
    """The first few keys in words, and how many more there are."""
    keys = list(keys)
    rest = f" and {len(keys) - _MOST_NAMED} more" if len(keys) > _MOST_NAMED else ""
    return ", ".join(keys[:_MOST_NAMED]) + rest


def _within(found: list[Candidate], prefix: str | None) -> list[Candidate]:
    if chosen := _under(found, prefix):
        return chosen
    raise WeightsError(f"no network is under {prefix!r}, but under {', '.join(each.place for each in found)}")


def _under(found: list[Candidate], prefix: str | None) -> list[Candidate]:
    if prefix is None:
        return found
    return [each for each in found if f"{each.place}.".startswith(f"{prefix.rstrip('.')}.")]


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


def _misfits(candidate: Candidate, architecture: str) -> list[str]:
    """What keeps these weights out of the network, each kind of trouble with its first keys."""
    return [f"{kind}: {first_keys(keys)}" for kind, keys in _misfitting(candidate, architecture).items() if keys]


def _misfitting(candidate: Candidate, architecture: str) -> dict[str, list[str]]:
    """The keys of each kind of trouble."""
    weights = candidate.weights
    wanted = _wanted(architecture, count_outputs(weights), **arguments_of(weights, architecture))
    given = {key: tuple(value.shape) for key, value in weights.items()}
    missing = [key for key in wanted if key not in given and not key.endswith(COUNTER) and not in_head(key)]
    extra = [key for key in given if key not in wanted]
    shapes = [
        f"{key} {list(given[key])} for {list(wanted[key])}"
        for key in given
        if given[key] != wanted.get(key, given[key])
    ]
    return {"missing": missing, "not its own": extra, "of another shape": shapes}


def _are_equal(one: Candidate, other: Candidate) -> bool:
    return one.weights.keys() == other.weights.keys() and all(
        torch.equal(value, other.weights[name]) for name, value in one.weights.items()
    )


def _notes(candidate: Candidate, others: list[str]) -> Iterable[str]:
    if candidate.is_averaged:
        rest = f", not the raw ones of {', '.join(others)}" if others else ""
        yield f"averaged weights, of {candidate.place}{rest}"
    elif candidate.prefix:
        yield f"weights of {candidate.place}"
    if candidate.head and candidate.head != f"{candidate.prefix}{HEAD}":
        yield f"last layer {candidate.head.replace(NESTED, '.')}"
    if candidate.left_out:
        yield f"left out, for it is not the network's: {first_keys(candidate.left_out)}"


def _hint(tensors: Mapping[str, Tensor], candidate: Candidate, prefix: str | None) -> str:
    if fitting := _fitting(tensors, prefix):
        return f"They fit {', '.join(fitting)}"
    return _unknown(candidate)


def _unknown(candidate: Candidate) -> str:
    known = variants.difference_of_weights({key: tuple(value.shape) for key, value in candidate.weights.items()})
    told = f"Their network {known}" if known else "They fit no network that this project knows"
    return f"{told}; {TO_ONNX}"
