"""Every network by name: how it is built, and what it takes and returns."""

import difflib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial

import torch
from torch import Tensor, nn

from models.networks import resnet, resnet_cifar
from models.networks.mnist import InceptionNet, ResidualNet


class ArchitectureError(ValueError):
    """No such network, or an argument that it does not take; the message lists what there is."""


class MisfitError(ValueError):
    """Weights that are not this network's: the message names what is missing, not its own, or of another shape."""


@dataclass(frozen=True, slots=True)
class Architecture:
    """A network's contract: floats [n, channels, height, width] in, logits [n, classes] out.

    `input_shape` is (channels, height, width) that the network was designed for, `classes` how many it has unless
    `build` is told otherwise, `arguments` what else `build` takes: the values of each, the default first.
    """

    name: str
    input_shape: tuple[int, int, int]
    classes: int
    builder: Callable[..., nn.Module] = field(repr=False)
    arguments: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def shape_with(self, arguments: Mapping[str, str]) -> tuple[int, int, int]:
        """Return the input's (channels, height, width) when the network is built with these arguments."""
        channels, height, width = self.input_shape
        return int(arguments.get("in_channels", channels)), height, width


def _architectures() -> Iterator[Architecture]:
    mnist, imagenet, cifar = (1, 28, 28), (3, 224, 224), (3, 32, 32)
    pictures = {"in_channels": ("3", "1")}  # colour, grey
    yield Architecture("mnist-residual", mnist, 10, ResidualNet)
    yield Architecture("mnist-residual-bn", mnist, 10, partial(ResidualNet, batch_norm=True))
    yield Architecture("mnist-inception", mnist, 10, InceptionNet)
    for depth in resnet.BASIC | resnet.BOTTLENECK:
        yield Architecture(f"resnet{depth}", imagenet, 1000, partial(resnet.resnet, depth), pictures)
    for depth in resnet.BASIC:
        yield Architecture(f"plain{depth}", imagenet, 1000, partial(resnet.plain, depth), pictures)
    shortcuts = {"shortcut": tuple(resnet_cifar.SHORTCUTS)}
    for depth in resnet_cifar.DEPTHS:
        yield Architecture(f"resnet{depth}", cifar, 10, partial(resnet_cifar.resnet, depth), shortcuts | pictures)
    for depth in resnet_cifar.DEPTHS:
        yield Architecture(f"plain{depth}", cifar, 10, partial(resnet_cifar.plain, depth), pictures)


_ARCHITECTURES = {architecture.name: architecture for architecture in _architectures()}


def names() -> tuple[str, ...]:
    """Return the names of all networks, family by family."""
    return tuple(_ARCHITECTURES)


def describe(name: str) -> Architecture:
    """Return the contract of a network, or raise ArchitectureError."""
    if name not in _ARCHITECTURES:
        raise ArchitectureError(f"unknown network {name!r}{_hint(name, names())}")
    return _ARCHITECTURES[name]


def build(name: str, /, *, classes: int | None = None, **arguments: str) -> nn.Module:
    """Build a freshly initialised network on torch's default device, or raise ArchitectureError."""
    architecture = describe(name)
    classes = architecture.classes if classes is None else classes
    if classes < 1:
        raise ArchitectureError(f"{name} cannot have {classes} classes: give 1 or more")
    for key, value in arguments.items():
        _check(architecture, key, value)
    numbers = {key: int(value) for key, value in arguments.items() if value.isdecimal()}
    return architecture.builder(classes=classes, **(arguments | numbers))


def build_with_weights(
    name: str, weights: Mapping[str, Tensor], /, *, classes: int | None = None, **arguments: str
) -> nn.Module:
    """Build a network with copies of these weights, in fp32 on their device; raise ArchitectureError or MisfitError."""
    with torch.device("meta"):  # takes neither memory nor random numbers
        network = build(name, classes=classes, **arguments)
    try:
        network.load_state_dict({key: value.clone() for key, value in weights.items()}, assign=True)
    except RuntimeError as error:
        raise MisfitError(str(error)) from error
    return network.float()


def parse_arguments(pairs: Iterable[str]) -> dict[str, str]:
    """Turn the command line's `key=value` words into arguments of `build`, or raise ArchitectureError."""
    arguments: dict[str, str] = {}
    for pair in pairs:
        key, separator, value = pair.partition("=")
        if not (key and separator and value):
            raise ArchitectureError(f"{pair!r} is not of the form key=value: write it so, e.g. shortcut=B")
        if key == "classes":
            raise ArchitectureError(
                "the class count is no argument: leave it out, it comes from the data or from --classes"
            )
        if key in arguments:
            raise ArchitectureError(f"argument {key!r} is given twice: give it once")
        arguments[key] = value
    return arguments


def _check(architecture: Architecture, key: str, value: str) -> None:
    if not architecture.arguments:
        raise ArchitectureError(f"{architecture.name} takes no arguments, got {key!r}: leave it out")
    if key not in architecture.arguments:
        valid = tuple(architecture.arguments)
        raise ArchitectureError(f"{architecture.name} has no argument {key!r}{_hint(key, valid)}")
    choices = architecture.arguments[key]
    if value not in choices:
        raise ArchitectureError(f"{architecture.name}: {key} is {value!r}, must be one of {', '.join(choices)}")


def _hint(wrong: str, valid: tuple[str, ...]) -> str:
    close = difflib.get_close_matches(wrong, valid, n=1)
    question = f", did you mean {close[0]!r}?" if close else "."
    return f"{question} There are: {', '.join(valid)}"
