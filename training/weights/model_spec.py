"""What a file of weights does not say: the pictures that a network expects, and the names of its classes."""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path

from pydantic import ValidationError

from models.images.preprocessing import Preprocessing
from models.validation import explain
from training.data.dataset import Normalization
from training.data.preprocessing_spec import preprocessing_spec
from training.errors import UsageError, WeightsError
from training.options import CropMode, ImportOptions, InterpolationChoice

_LEAST_CROPPED = 224
"""Side of the input, in pixels, from which pictures are cropped; for smaller inputs they are only resized."""

_CROP_PCT = 224 / 256
"""The crop as a fraction of the shorter side: how ImageNet's networks are usually evaluated."""

_INTERPOLATIONS: tuple[InterpolationChoice, ...] = ("bilinear", "bicubic")
"""Filters that the server resizes with."""

_BEFORE_CROP = ("resize", "crop_pct", "crop", "other_crop")
"""Fields that say together how a picture is brought to size before the crop."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelSpec:
    """None where it is not known; `mean` and `std` are fractions of 255, `size` and `resize` pixels.

    `crop_pct` is `size` as a fraction of `resize`, which is not read where `crop` squashes; `other_crop` says how
    pictures are brought to size instead, in a way that the server has not.
    """

    labels: tuple[str, ...] | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    size: int | None = None
    resize: int | None = None
    crop_pct: float | None = None
    interpolation: str | None = None
    crop: CropMode | None = None
    other_crop: str | None = None

    def over(self, other: "ModelSpec") -> "ModelSpec":
        """Return this spec, with the other's values where this one has none."""
        if self.resize or self.crop_pct:
            other = replace(other, **dict.fromkeys(_BEFORE_CROP))
        pairs = {field.name: (getattr(self, field.name), getattr(other, field.name)) for field in fields(self)}
        return ModelSpec(**{name: theirs if mine is None else mine for name, (mine, theirs) in pairs.items()})

    def settle(self, classes: int, side: int, channels: int = 3) -> tuple[tuple[str, ...], Preprocessing]:
        """Return the labels and the preprocessing of a network for pictures of usually `side` pixels.

        WeightsError names what is unknown, or does not go together.
        """
        if self.labels is None or self.mean is None or self.std is None:
            missing = ", ".join(f"--{name}" for name in ("labels", "mean", "std") if getattr(self, name) is None)
            raise WeightsError(
                f"nothing tells {missing}: give that, or --like with a name of torchvision's, or put the config.json "
                "that came with the weights beside them"
            )
        return distinct(self.labels, classes), self._preprocessing(side, channels, self.mean, self.std)

    def _preprocessing(
        self, side: int, channels: int, mean: tuple[float, ...], std: tuple[float, ...]
    ) -> Preprocessing:
        _check_fractions("mean", mean)
        _check_fractions("std", std)
        if self.other_crop:
            raise WeightsError(
                f"{self.other_crop}; to resize the shorter side and take the centre instead, say --resize"
            )
        if self.crop == "squash" and self.crop_pct not in (None, 1):
            raise WeightsError(
                f"pictures are squeezed to more than the network's size, of which the middle is {self.crop_pct:g}: the "
                "server squeezes to that size itself; say --crop-pct 1, and measure what that changes"
            )
        wanted = self.interpolation or _INTERPOLATIONS[0]
        interpolation = next((each for each in _INTERPOLATIONS if each == wanted), None)
        if interpolation is None:
            raise WeightsError(
                f"pictures are to be resized with {wanted}, and the server has {' and '.join(_INTERPOLATIONS)}: "
                "give one of these as --interpolation, and measure what that changes"
            )
        size = self.size or side
        normalization = Normalization(mean, std)
        try:
            # Without draft the pixels are torchvision's, to one grey level.
            spec = preprocessing_spec((channels, size, size), self._resize(size), normalization, draft=False)
            return replace(spec, interpolation=interpolation, crop=self.crop or "center")
        except ValidationError as error:
            raise WeightsError(explain(error, "preprocessing")) from error

    def _resize(self, size: int) -> int:
        """Length of the shorter side before the crop, rounded as timm and transformers do."""
        if self.crop == "squash":
            return size
        if self.resize:
            return self.resize
        if self.crop_pct:
            return math.floor(size / self.crop_pct)
        return size if size < _LEAST_CROPPED else round(size / _CROP_PCT)


def spec_of_options(options: ImportOptions) -> ModelSpec:
    """Return what the command line says of the network; UsageError or WeightsError if that cannot be read."""
    if options.resize and options.crop_pct:
        raise UsageError("--resize and --crop-pct say the same thing: leave one out")
    if options.resize and options.crop_mode == "squash":
        raise UsageError("--crop-mode squash squeezes pictures to the network's size: leave out --resize")
    return ModelSpec(
        labels=parse_labels(options.labels) if options.labels else None,
        mean=parse_numbers(options.mean) if options.mean else None,
        std=parse_numbers(options.std) if options.std else None,
        size=options.size,
        resize=options.resize,
        crop_pct=options.crop_pct,
        interpolation=options.interpolation,
        crop=options.crop_mode,
    )


def parse_numbers(text: str) -> tuple[float, ...]:
    """Read `0.485,0.456,0.406`; WeightsError if that is not numbers."""
    words = text.split(",")
    try:
        numbers = tuple(map(float, words))
    except ValueError:
        numbers = (math.nan,)
    if not all(map(math.isfinite, numbers)):
        raise WeightsError(f"{text!r} is not numbers with commas between them, such as 0.485,0.456,0.406")
    return numbers


def parse_labels(text: str) -> tuple[str, ...]:
    """Read `cat,dog`, or `@FILE` with a label on each line; WeightsError if the file cannot be read."""
    if not text.startswith("@"):
        return tuple(label.strip() for label in text.split(","))
    try:
        content = Path(text[1:]).read_text(encoding="utf-8-sig").rstrip()
    except OSError as error:
        raise WeightsError(f"labels cannot be read from {text[1:]}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise WeightsError(f"labels cannot be read from {text[1:]}: it must be text in UTF-8") from error
    if content[:1] + content[-1:] in ("[]", "{}"):
        raise WeightsError(f"labels cannot be read from {text[1:]}: it is JSON, and needed is a label on each line")
    return tuple(content.splitlines())


def distinct(labels: Sequence[str], classes: int) -> tuple[str, ...]:
    """Return a label for each class, those that repeat with their index; WeightsError if they are more or fewer."""
    if len(labels) < 2:
        raise WeightsError(f"labels are {', '.join(labels)}: needed are 2 labels at least, one for each class")
    if len(labels) != classes:
        raise WeightsError(
            f"the last layer has {classes} classes, but there are {len(labels)} labels: give one for each"
        )
    if empty := [str(index) for index, label in enumerate(labels) if not label.strip()]:
        raise WeightsError(f"the label of class {', '.join(empty)} is empty: give each class a name")
    times = Counter(labels)
    told_apart = [label if times[label] == 1 else f"{label} ({index})" for index, label in enumerate(labels)]
    if taken := [label for label, count in Counter(told_apart).items() if count > 1]:
        raise WeightsError(f"labels repeat, and {taken[0]!r} is one of them already: give each class a name of its own")
    return tuple(told_apart)


def _check_fractions(name: str, values: tuple[float, ...]) -> None:
    if any(abs(value) > 1 for value in values):
        fractions = ",".join(f"{value / 255:.4g}" for value in values)
        raise WeightsError(
            f"{name} {','.join(f'{value:g}' for value in values)} is on the scale to 255, and fractions of 255 are "
            f"needed: --{name} {fractions}"
        )
