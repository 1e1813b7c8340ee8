"""Every tensor in a file by one name, wherever training scripts nest it."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TypeGuard

from torch import Tensor

from training.weights.stand_ins import StandIn

NESTED = "/"
"""Stands in a name between the levels that a file nests; within a state dict names have dots."""

_SAYING = ("arch", "architecture", "model", "model_name")
"""Names under which training scripts keep that of the network."""


_SETTINGS = ("stride", "padding", "dilation", "groups", "padding_mode", "eps")
"""What a layer computes with beside its weights."""


@dataclass(frozen=True, slots=True)
class NamedTensors:
    """Tensors by their names, such as `state_dict/module.conv1.weight`, and names that the file gives its network.

    `settings` are those of pickled layers, by the id of the layer's weight: its stride, its eps and the like.
    """

    tensors: dict[str, Tensor]
    networks: tuple[str, ...]
    settings: dict[int, dict[str, object]]


def named_tensors(content: object) -> NamedTensors:
    """Find what a file holds: in mappings, lists and the states of stand-ins, also of whole pickled networks."""
    tensors, networks = {}, []
    settings: dict[int, dict[str, object]] = {}
    for name, value in _leaves(content):
        if isinstance(value, Tensor):
            tensors[name] = value
        elif isinstance(value, str) and name.rpartition(NESTED)[2] in _SAYING:
            networks.append(value)
        elif isinstance(value, StandIn) and _is_module(value.state):
            weight = value.state["_parameters"].get("weight")
            settings[id(weight)] = {key: value.state[key] for key in _SETTINGS if key in value.state}
    return NamedTensors(tensors, tuple(dict.fromkeys(networks)), settings)


def _leaves(content: object) -> Iterator[tuple[str, object]]:
    """Each value that holds no others, and each pickled layer, by its name; what is in several places is told once."""
    waiting, seen = [("", content)], set()
    while waiting:
        name, value = waiting.pop()
        if (parts := _parts(value)) is None:
            yield name, value
        elif id(value) not in seen:
            seen.add(id(value))
            if isinstance(value, StandIn):
                yield name, value
            waiting += [(_join(name, part, separator), each) for part, separator, each in reversed(list(parts))]


def _parts(value: object) -> list[tuple[str, str, object]] | None:
    """What a value holds: each name, what stands before it, and the value of that name; None if it holds nothing."""
    if isinstance(value, StandIn):
        if _is_module(value.state):
            return _module_parts(value.state)
        return _parts(value.state)
    if isinstance(value, Mapping):
        return [(str(key), NESTED, each) for key, each in value.items()]
    if isinstance(value, list | tuple):
        return [(str(index), NESTED, each) for index, each in enumerate(value)]
    return None


def _is_module(state: object) -> TypeGuard[Mapping[str, Mapping[str, object]]]:
    return isinstance(state, Mapping) and {"_parameters", "_buffers", "_modules"} <= state.keys()


def _module_parts(state: Mapping[str, Mapping[str, object]]) -> list[tuple[str, str, object]]:
    """A pickled network's tensors as its state dict would name them."""
    own = [pair for kind in ("_parameters", "_buffers", "_modules") for pair in state[kind].items()]
    return [(str(key), ".", each) for key, each in own]


def _join(name: str, part: str, separator: str) -> str:
    return f"{name}{separator}{part}" if name else part
