"""Where in a file a network's weights are: under which prefix, with which last layer, beside what else.

The network's own names are looked for, in every spelling that is known; what stands before them is the prefix.
"""

import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass

from torch import Tensor

from training.errors import WeightsError
from training.loop.trained_network import HEAD, in_head
from training.weights.named_tensors import NESTED

_SPELLINGS = (
    # transformers' ResNetForImageClassification
    (r"\bembedder\.embedder\.convolution\.", "conv1."),
    (r"\bembedder\.embedder\.normalization\.", "bn1."),
    (r"\bencoder\.stages\.(\d+)\.layers\.(\d+)\.", lambda found: f"layer{int(found[1]) + 1}.{found[2]}."),
    (r"(?<=\.)layer\.(\d)\.convolution\.", lambda found: f"conv{int(found[1]) + 1}."),
    (r"(?<=\.)layer\.(\d)\.normalization\.", lambda found: f"bn{int(found[1]) + 1}."),
    (r"(?<=\.)shortcut\.convolution\.", "downsample.0."),
    (r"(?<=\.)shortcut\.normalization\.", "downsample.1."),
    # akamaster/pytorch_resnet_cifar10
    (r"(?<=\.)shortcut\.", "downsample."),
    # a layer whose own state dict stands beside the body's
    (rf"{NESTED}(?=(weight|bias)$)", "."),
)
"""Patterns of others' names, and ours for each, which are torchvision's; applied one after the other."""

_CHILDREN = {"0": "conv1", "1": "bn1", "4": "layer1", "5": "layer2", "6": "layer3", "7": "layer4"}
"""torchvision's children by their numbers in `nn.Sequential(*network.children())`, as feature extractors are made."""

_NUMBERED = re.compile(r"(?:^|(?<=[./]))4\.0\.conv1\.weight$")
"""The first convolution of a first block whose network's children are numbered."""

COUNTER = "num_batches_tracked"
"""Name of a norm's count of batches, which PyTorch before 0.4.1 did not keep and evaluation does not read."""

_NOISE = re.compile(r"(^|[./])(total_ops|total_params|n_averaged|" + COUNTER + ")$")
"""Tensors that profilers and averaging leave in state dicts."""

_AVERAGED = re.compile(r"(^|[._/])(ema|averaged?|averaging|swa)\d*([._/]|$)")
"""A prefix of averaged weights."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A network's weights by our names, and what was seen of their surroundings.

    Attributes:
        prefix: what stands before their names in the file.
        weights: tensors inside the prefix, by our names; those of the last layer are called `fc`.
        head: the last layer's name in the file; None if there is none.
        left_out: names of tensors in the same state dict that are others'.

    """

    prefix: str
    weights: dict[str, Tensor]
    head: str | None
    left_out: tuple[str, ...]

    @property
    def is_averaged(self) -> bool:
        """Whether the prefix says that these weights are averages, as timm's `state_dict_ema`."""
        return _AVERAGED.search(self.prefix) is not None

    @property
    def place(self) -> str:
        """The prefix, for people."""
        return self.prefix.replace(NESTED, ".").rstrip(".") or "the file's top"


def find_candidates(tensors: Mapping[str, Tensor], wanted: Mapping[str, tuple[int, ...]]) -> list[Candidate]:
    """Find the weights of a network, given as its names and shapes, wherever some are; all of the file if nowhere.

    WeightsError if the last layer is a head of several.
    """
    spelled = _with_names_of_children({_ours(name): tensor for name, tensor in tensors.items()})
    anchor = [name for name, shape in wanted.items() if len(shape) == 4][1]  # the first would fit in every block
    prefixes = [name.removesuffix(anchor) for name in spelled if re.search(rf"(^|[./]){re.escape(anchor)}$", name)]
    return [_candidate(spelled, prefix, prefixes, wanted) for prefix in prefixes] or [_all_of(spelled)]


def _ours(name: str) -> str:
    for pattern, spelling in _SPELLINGS:
        name = re.sub(pattern, spelling, name)
    return name


def _with_names_of_children(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors, those of numbered children by the children's names."""
    prefixes = {name[: found.start()] for name in tensors if (found := _NUMBERED.search(name))}

    def named(name: str) -> str:
        for prefix in prefixes:
            number, dot, rest = name.removeprefix(prefix).partition(".")
            if name.startswith(prefix) and number in _CHILDREN:
                return f"{prefix}{_CHILDREN[number]}{dot}{rest}"
        return name

    return {named(name): tensor for name, tensor in tensors.items()}


def _all_of(tensors: Mapping[str, Tensor]) -> Candidate:
    """The state dict with most tensors, which is no such network's."""
    places = [name[: name.rfind(NESTED) + 1] for name in tensors]
    prefix = max(dict.fromkeys(places), key=places.count)
    weights = {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if _is_inside(name, prefix)}
    return Candidate(prefix, weights, None, ())


def _candidate(
    tensors: Mapping[str, Tensor], prefix: str, prefixes: list[str], wanted: Mapping[str, tuple[int, ...]]
) -> Candidate:
    others = tuple(other for other in prefixes if other != prefix and not prefix.startswith(other))
    body = {f"{prefix}{name}" for name in wanted if not in_head(name)}
    own = {
        name: tensor
        for name, tensor in tensors.items()
        if name in body or not (name.startswith(others) or _NOISE.search(name))
    }
    behind = {name: tensor for name, tensor in own.items() if name not in body}
    head = _find_head(behind, prefix, wanted[f"{HEAD}.weight"][1])
    layer = {f"{head}.{kind}": f"{HEAD}.{kind}" for kind in ("weight", "bias") if f"{head}.{kind}" in behind}
    inside = {name for name in own if _is_inside(name, prefix)} - layer.keys()
    container = prefix[: prefix.rfind(NESTED) + 1]
    outside = [name for name in behind if _is_inside(name, container) and name not in inside and name not in layer]
    if head:
        _check_between(head, prefix, inside - body, outside)
    weights = {name.removeprefix(prefix): own[name] for name in own if name in inside}
    weights |= {ours: own[name] for name, ours in layer.items()}
    return Candidate(prefix, weights, head, tuple(name.removeprefix(container) for name in outside))


def _is_inside(name: str, prefix: str) -> bool:
    """Whether the name is the prefix and a name within the same state dict."""
    return name.startswith(prefix) and NESTED not in name.removeprefix(prefix)


def _find_head(tensors: Mapping[str, Tensor], prefix: str, features: int) -> str | None:
    """The name of the one linear layer behind the body: inside the prefix, else as near to it as there is any.

    WeightsError if there are several, one behind the other or side by side.
    """
    for scope in _scopes(prefix):
        linear = {
            name.removesuffix(".weight"): tensor
            for name, tensor in tensors.items()
            if name.startswith(scope) and name.endswith(".weight") and tensor.ndim == 2
        }
        if linear:
            return _only_layer(linear, features, is_inside=scope == prefix)
    return None


def _scopes(prefix: str) -> Iterator[str]:
    """The prefix, and each that it is nested in: `model/net.`, `model/`, and all of the file."""
    yield prefix
    while prefix:
        prefix = re.sub(r"[^./]*[./]$", "", prefix)
        yield prefix


def _only_layer(linear: Mapping[str, Tensor], features: int, *, is_inside: bool) -> str | None:
    fitting = [name for name, weight in linear.items() if weight.shape[1] == features]
    if len(linear) == 1:
        return next(iter(linear)) if fitting or is_inside else None
    behind = [name for name, weight in linear.items() if weight.shape[1] in {linear[each].shape[0] for each in fitting}]
    if len(fitting) == 1 and not set(behind) - set(fitting):
        return fitting[0]
    if not fitting:
        return None
    layers = ", ".join(f"{name} {weight.shape[1]} to {weight.shape[0]}" for name, weight in linear.items())
    raise WeightsError(
        f"behind the body stands a head of {len(linear)} linear layers ({layers.replace(NESTED, '.')}), where the "
        "networks of this project have one last layer: export the network as it is with torch.onnx.export, and import "
        "that file"
    )


def _check_between(head: str, prefix: str, inside: Collection[str], outside: Collection[str]) -> None:
    """Running statistics in the head, or beside a body whose head is elsewhere, are those of a norm between them."""
    around = re.sub(r"[^./]*$", "", head)
    if around == prefix:
        return
    beside = [name for name in inside if name.startswith(around)] if head.startswith(prefix) else outside
    if norm := next((name for name in beside if name.endswith("running_mean")), None):
        raise WeightsError(
            f"between the body and its last layer {head.replace(NESTED, '.')} stands a norm ({norm}), which the "
            "networks of this project do not have: export the network as it is with torch.onnx.export, and import "
            "that file"
        )
