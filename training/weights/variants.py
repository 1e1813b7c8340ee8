"""Names by which others publish ResNets: which of them compute what ours do, and how the rest differ."""

import re
from collections.abc import Iterable, Mapping

_SAME = re.compile(r"(?:tv_|ssl_|swsl_|a[123]_)?(resnet(?:18|34|50|101|152))|gluon_(resnet(?:18|34|50|101|152))_v1b")
"""timm's names of the networks that torchvision has."""

_OTHERS = {
    r"aa\d|blur": "blurs before it halves the picture, without weights of its own",
    r"resnext|ig_": "has grouped convolutions",
    r"resnest|res2net|hrnet|regnet": "has other blocks",
    r"v2|preact": "has its norms and activations before the convolutions",
    r"rs\d": "has another stem, other shortcuts, and attention in its blocks",
    r"(^|_)(se|eca|sk|gc|cecanet|ge|lambda|bot|halo|nf|avg)": "has other blocks",
    r"\d[dt]$": "has another stem, of three convolutions, and pools in its shortcuts",
    r"\d[cs]$|_v1[cs]": "has another stem, of three convolutions",
    r"_v1d": "has another stem, of three convolutions, and pools in its shortcuts",
    r"wide_|\dx\d": "is wider inside its blocks",
    r"_gn$": "has group norm",
    r"clip": "has another stem, and attention in place of its last pooling",
    r"\d(m|q|ts)$|silu|swish|gelu|leaky|mish": "has another activation",
}
"""How networks of other names differ from ours; the first that fits is told."""

_RESNET = re.compile(r"res(net|next|nest)|res2net")
"""A name that claims to be of this family."""


def registry_name(name: str) -> str | None:
    """Our name of the network that timm publishes under this one; None if it is no network of ours."""
    found = _SAME.fullmatch(_without_tag(name))
    return found[1] or found[2] if found else None


def difference(name: str) -> str | None:
    """How the ResNet of this name differs from ours; None if it is the same, or the name tells nothing."""
    name = _without_tag(name).lower()
    if _SAME.fullmatch(name) or not _RESNET.search(name):
        return None
    return next((what for pattern, what in _OTHERS.items() if re.search(pattern, name)), None)


_OTHER_CLASSES = re.compile(
    r"\.(SiLU|GELU|Mish|ELU|SELU|CELU|PReLU|RReLU|LeakyReLU|ReLU6|Hardswish|Hardtanh|Softplus|Tanh|Sigmoid|"
    r"\w*Swish\w*|BlurPool\w*|GroupNorm\w*|LayerNorm\w*|InstanceNorm\w*|AdaptiveMaxPool\w*)$",
    re.IGNORECASE,
)
"""Classes of layers that none of our networks for colour pictures has."""

_BLOCK = "layer1.0."
"""Prefix of the first block, which tells what all blocks have."""


def difference_of_classes(names: Iterable[str]) -> str | None:
    """How a pickled network of these classes differs from ours; None if none of them is foreign."""
    found = next((name for name in names if _OTHER_CLASSES.search(name)), None)
    return found and f"has layers of the class {found}"


def difference_of_weights(shapes: Mapping[str, tuple[int, ...]]) -> str | None:
    """How the ResNet with weights of these names and shapes differs from ours; None if that is not known."""
    stem, inner = shapes.get("conv1.weight", ()), shapes.get(f"{_BLOCK}conv2.weight", ())
    kinds = {
        "has another stem, of several convolutions, as timm's resnet*d and OpenMMLab's ResNetV1d": any(
            name.startswith(("conv1.0.", "stem.")) for name in shapes
        ),
        "has another stem, a 3x3 convolution before four stages, as ResNets for CIFAR by kuangliu": (
            stem[2:] == (3, 3) and any(name.startswith("layer4.") for name in shapes)
        ),
        "has attention in its blocks, as SE-ResNets": any(
            re.search(r"\.(se|eca|attn|cbam)\.", name) for name in shapes
        ),
        "has group norm, or another norm without running statistics": (
            "bn1.weight" in shapes and "bn1.running_mean" not in shapes
        ),
        "has grouped convolutions, as ResNeXt": len(inner) == 4 and inner[0] > inner[1],
        "is wider inside its blocks, as wide ResNets": len(inner) == 4 and inner[0] == inner[1] > 64,
        "ends in attention, as CLIP's ResNets": any(name.startswith("attnpool.") for name in shapes),
        "takes other pictures than grey and colour ones": len(stem) == 4 and stem[1] not in (1, 3),
    }
    return next((what for what, is_so in kinds.items() if is_so), None)


def _without_tag(name: str) -> str:
    """Timm's name without the training that it was published after: `resnet50` of `resnet50.a1_in1k`."""
    return name.rpartition("/")[2].partition(".")[0]
