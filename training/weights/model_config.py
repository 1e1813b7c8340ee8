"""`config.json` and `preprocessor_config.json` beside weights, as timm and transformers write them."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from training.errors import WeightsError
from training.weights import variants
from training.weights.model_spec import ModelSpec

CONFIG_FILE = "config.json"
PREPROCESSOR_FILE = "preprocessor_config.json"

_STAGES = {
    ("basic", (2, 2, 2, 2)): "resnet18",
    ("basic", (3, 4, 6, 3)): "resnet34",
    ("bottleneck", (3, 4, 6, 3)): "resnet50",
    ("bottleneck", (3, 4, 23, 3)): "resnet101",
    ("bottleneck", (3, 8, 36, 3)): "resnet152",
}
"""transformers' `layer_type` and `depths` of our networks."""

_FACTS = {
    "hidden_act": "relu",
    "embedding_size": 64,
    "downsample_in_first_stage": False,
    "downsample_in_bottleneck": False,
}
"""transformers' settings of our networks; a missing one has this value."""

_HARMLESS = {
    "num_classes",
    "in_chans",
    "drop_rate",
    "drop_path_rate",
    "drop_block_rate",
    "pretrained",
    "zero_init_last",
}
"""Arguments of timm's networks that do not change what they compute when they serve, or that weights tell."""

_USUAL = {"global_pool": "avg", "act_layer": "relu", "norm_layer": "batchnorm2d", "output_stride": 32}
"""Arguments of timm's networks with the value that ours have."""

_RESAMPLING = ("nearest", "lanczos", "bilinear", "bicubic", "box", "hamming")
"""Pillow's filters by their number."""

_LEAST_SQUEEZED = 384
"""Side in pixels from which transformers' ConvNeXt pictures are squeezed to a square instead of cropped."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelConfig:
    """What the files beside weights say.

    `architecture` is our name of the network; `other_function` says why it is none of ours.
    """

    files: tuple[str, ...]
    spec: ModelSpec
    architecture: str | None = None
    other_function: str | None = None


def read_model_config(weights: Path) -> ModelConfig | None:
    """Read the files in the folder of the weights; None if there is none of timm's or transformers'.

    WeightsError if one cannot be read.
    """
    config, preprocessor = (_read(weights.parent / name) for name in (CONFIG_FILE, PREPROCESSOR_FILE))
    try:
        return _understand(config, preprocessor)
    except (ValueError, TypeError, LookupError, AttributeError) as error:
        raise WeightsError(
            f"{weights.parent / CONFIG_FILE} or {PREPROCESSOR_FILE} beside it is not as timm and transformers write "
            f"them ({type(error).__name__}: {error}); mend it, or move it elsewhere and say what it says by flags"
        ) from error


def _read(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise WeightsError(f"{path} beside the weights cannot be read: {error}") from error
    return content if isinstance(content, dict) else {}


def _understand(config: dict[str, Any], preprocessor: dict[str, Any]) -> ModelConfig | None:
    files = tuple(name for name, content in ((CONFIG_FILE, config), (PREPROCESSOR_FILE, preprocessor)) if content)
    spec = _preprocessor_spec(preprocessor) if preprocessor else ModelSpec()
    if "architecture" in config:
        architecture, other = _timm_function(config)
        return ModelConfig(
            files=files, spec=spec.over(_timm_spec(config)), architecture=architecture, other_function=other
        )
    if "model_type" in config:
        architecture, other = _transformers_function(config)
        labels = _labels(config.get("id2label"))
        return ModelConfig(
            files=files, spec=spec.over(ModelSpec(labels=labels)), architecture=architecture, other_function=other
        )
    return ModelConfig(files=(PREPROCESSOR_FILE,), spec=spec) if preprocessor else None


def _timm_function(config: Mapping[str, Any]) -> tuple[str | None, str | None]:
    name = str(config["architecture"])
    architecture = variants.registry_name(name)
    if architecture is None:
        return None, f"{name} {variants.difference(name) or 'is no network that this project knows'}"
    given = {"global_pool": config.get("global_pool")} | (config.get("model_args") or {})
    told = ", ".join(
        f"{key} {value}"
        for key, value in given.items()
        if value is not None and key not in _HARMLESS and value != _USUAL.get(key)
    )
    return architecture, f"{name} with {told} computes something else" if told else None


def _timm_spec(config: Mapping[str, Any]) -> ModelSpec:
    inner = config.get("pretrained_cfg") or config
    labels, crop_mode = inner.get("label_names") or config.get("label_names"), inner.get("crop_mode", "center")
    size = inner.get("input_size")
    return ModelSpec(
        labels=tuple(map(str, labels)) if labels else None,
        mean=_floats(inner.get("mean")),
        std=_floats(inner.get("std")),
        size=int(size[-1]) if size else None,
        crop_pct=inner.get("crop_pct"),
        interpolation=inner.get("interpolation"),
        crop="squash" if crop_mode == "squash" else None,
        other_crop=None if crop_mode in ("center", "squash") else f"{CONFIG_FILE} has crop_mode {crop_mode}",
    )


def _transformers_function(config: Mapping[str, Any]) -> tuple[str | None, str | None]:
    if config["model_type"] != "resnet":
        return None, f"a {config['model_type']} is no network that this project knows"
    kind = config.get("layer_type", "bottleneck")
    depths, widths = (
        tuple(config.get("depths", (3, 4, 6, 3))),
        tuple(config.get("hidden_sizes", (256, 512, 1024, 2048))),
    )
    architecture = _STAGES.get((kind, depths))
    first = {"basic": 64, "bottleneck": 256}.get(kind, 0)
    if architecture is None or widths != (first, 2 * first, 4 * first, 8 * first):
        return None, f"a ResNet of {kind} blocks {depths} with {widths} channels is no network that this project knows"
    changed = {key: config[key] for key, usual in _FACTS.items() if config.get(key, usual) != usual}
    if kind == "basic":
        changed.pop("downsample_in_bottleneck", None)
    told = ", ".join(f"{key} {value}" for key, value in changed.items())
    return architecture, f"a ResNet with {told} computes something else" if changed else None


def _labels(names: Mapping[str, str] | None) -> tuple[str, ...] | None:
    """Transformers' `id2label`, in order."""
    return tuple(name for _, name in sorted((int(index), name) for index, name in names.items())) if names else None


def _preprocessor_spec(config: Mapping[str, Any]) -> ModelSpec:
    is_normalised = config.get("do_normalize", True)
    mean, std = (config.get("image_mean"), config.get("image_std")) if is_normalised else ((0.0,) * 3, (1.0,) * 3)
    resample = config.get("resample")
    interpolation = None if resample is None else _RESAMPLING[resample]
    _check_levels(config)
    return ModelSpec(mean=_floats(mean), std=_floats(std), interpolation=interpolation).over(_sizes(config))


def _check_levels(config: Mapping[str, Any]) -> None:
    factor = config.get("rescale_factor", 1 / 255)
    if not config.get("do_rescale", True) or abs(factor * 255 - 1) > 1e-3 or config.get("rescale_offset"):
        raise WeightsError(
            f"{PREPROCESSOR_FILE} has another scale of pixels than from 0 to 1: move it elsewhere, and give mean and "
            "deviation as fractions of 255"
        )
    if config.get("do_flip_channel_order"):
        raise WeightsError(f"{PREPROCESSOR_FILE} swaps red and blue, which the server does not: give a network for RGB")


def _sizes(config: Mapping[str, Any]) -> ModelSpec:
    """How pictures come to the network's size: the shorter side and a crop, or squeezed."""
    sides = config.get("size")
    sides = {"shortest_edge": sides} if isinstance(sides, int) else sides or {}
    shorter, crop = sides.get("shortest_edge"), config.get("crop_size")
    crop = crop["height"] if isinstance(crop, Mapping) else crop
    kind = str(config.get("image_processor_type") or config.get("feature_extractor_type"))
    if kind.startswith("ConvNext") and shorter and shorter < _LEAST_SQUEEZED:
        return ModelSpec(size=shorter, crop_pct=config.get("crop_pct", 224 / 256))
    if shorter and crop and config.get("do_center_crop", True):
        return ModelSpec(size=crop, resize=shorter)
    side = shorter or sides.get("height")
    return ModelSpec(size=side, crop="squash" if side else None)


def _floats(values: object) -> tuple[float, ...] | None:
    if values is None:
        return None
    return tuple(float(value) for value in values) if isinstance(values, list | tuple) else None
