"""PyTorch files with more than tensors in them: what would have to run code becomes an inert stand-in.

torch's own reader for untrusted files (`weights_only`) does the work. It stops at each name that it does not know, and
is told of a class that only keeps what it is given, so that nothing of the file's own can run.
"""

import io
import pickle
import re
import warnings
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import torch

_UNKNOWN = re.compile(r"Unsupported global: GLOBAL (\S+) was not an allowed global")
_FILLED = re.compile(r"Can only SETITEMS? for dict.* but got <class '(.+)'>")
_APPENDED = re.compile(r"Can only append to lists, but got <class '(.+)'>")
"""torch's refusals: of a name that it does not know, and of an object of such a name that is filled as a container."""

_MOST_NAMES = 200
"""Different names of one file that become stand-ins at most."""


class StandIn:
    """An object of a class that is not loaded: keeps what it was made of, and its state."""

    def __new__(cls, *made_of: object) -> "StandIn":
        """Keep the arguments; there is no __init__ that could want others."""
        stand_in = super().__new__(cls)
        stand_in.made_of, stand_in.state = made_of, None
        return stand_in

    made_of: tuple[object, ...]
    state: object

    def __setstate__(self, state: object) -> None:
        """Keep the state as it is."""
        self.state = state


class _FilledStandIn:
    """An object that is filled as a mapping: becomes one."""

    def __new__(cls, *_: object) -> "OrderedDict[object, object]":  # type: ignore[misc]
        return OrderedDict()


class _AppendedStandIn:
    """An object that is filled as a list: becomes one."""

    def __new__(cls, *_: object) -> list[object]:  # type: ignore[misc]
        return []


_Kind = type[StandIn] | type[_FilledStandIn] | type[_AppendedStandIn]


def load_inert(data: bytes) -> tuple[object, tuple[str, ...]]:
    """Return what the bytes of a PyTorch file hold, and the names of the classes that became stand-ins.

    Raises pickle.UnpicklingError for what torch does not read under any name, and whatever damage makes torch raise.
    """
    kinds: dict[str, _Kind] = {}
    while True:
        stand_ins: list[Callable[..., Any] | tuple[Callable[..., Any], str]] = [
            (_named(kind, name), name) for name, kind in kinds.items()
        ]
        try:
            with torch.serialization.safe_globals(stand_ins), warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of pickle protocols that torch then refuses
                content = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
        except pickle.UnpicklingError as error:
            if len(kinds) >= _MOST_NAMES or not _learn(str(error), kinds):
                raise
        else:
            return content, tuple(sorted(kinds))


def _learn(refusal: str, kinds: dict[str, _Kind]) -> bool:
    """Note the kind of stand-in that torch's refusal asks for; False if that is nothing new."""
    before = dict(kinds)
    if found := _UNKNOWN.search(refusal):
        name = found[1] if "." in found[1] else f"builtins.{found[1]}"
        kinds[name] = StandIn
    elif (found := _FILLED.search(refusal)) and found[1] in kinds:
        kinds[found[1]] = _FilledStandIn
    elif (found := _APPENDED.search(refusal)) and found[1] in kinds:
        kinds[found[1]] = _AppendedStandIn
    return kinds != before


def _named(kind: _Kind, name: str) -> type:
    """A class of its own for the name, which torch's refusals then tell."""
    module, _, own = name.rpartition(".")
    return type(own, (kind,), {"__module__": module, "__qualname__": own})
