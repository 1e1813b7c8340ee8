"""What a file of weights does not say: the pictures that a network expects, and the names of its classes."""

from dataclasses import dataclass, fields
from pathlib import Path

from pydantic import ValidationError

from models.images.preprocessing import Preprocessing
from models.validation import explain
from training.data.dataset import Normalization
from training.data.preprocessing_spec import preprocessing_spec
from training.errors import WeightsError
from training.options import ImportOptions

_LEAST_CROPPED = 224
"""Side of the input, in pixels, from which pictures are cropped; for smaller inputs they are only resized."""

_RESIZE_TO_CROP = 256 / 224
"""Shorter side before the crop as a multiple of the crop: how ImageNet's networks are usually evaluated."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelSpec:
    """None where it is not known; `mean` and `std` are fractions of 255, `size` and `resize` pixels."""

    labels: tuple[str, ...] | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    size: int | None = None
    resize: int | None = None

    def over(self, other: "ModelSpec") -> "ModelSpec":
        """Return this spec, with the other's values where this one has none."""
        pairs = {field.name: (getattr(self, field.name), getattr(other, field.name)) for field in fields(self)}
        return ModelSpec(**{name: theirs if mine is None else mine for name, (mine, theirs) in pairs.items()})

    def settle(self, classes: int, side: int) -> tuple[tuple[str, ...], Preprocessing]:
        """Return the labels and the preprocessing of a network for colour pictures of usually `side` pixels.

        WeightsError names what is unknown, or does not go together.
        """
        if self.labels is None or self.mean is None or self.std is None:
            missing = ", ".join(f"--{name}" for name in ("labels", "mean", "std") if getattr(self, name) is None)
            raise WeightsError(f"the weights do not tell {missing}: give that, or --like with a name of torchvision's")
        if len(self.labels) != classes:
            raise WeightsError(f"fc.weight and fc.bias have {classes} classes, but there are {len(self.labels)} labels")
        if len(set(self.labels)) < classes:
            raise WeightsError("two labels are the same: these classes could not be told apart")
        size = self.size or side
        resize = self.resize or (size if size < _LEAST_CROPPED else round(size * _RESIZE_TO_CROP))
        normalization = Normalization(self.mean, self.std)
        try:
            # Without draft the pixels are torchvision's, to one grey level.
            return self.labels, preprocessing_spec((3, size, size), resize, normalization, draft=False)
        except ValidationError as error:
            raise WeightsError(explain(error, "preprocessing")) from error


def spec_of_options(options: ImportOptions) -> ModelSpec:
    """Return what the command line says of the network; WeightsError if numbers or labels cannot be read."""
    return ModelSpec(
        labels=parse_labels(options.labels) if options.labels else None,
        mean=parse_numbers(options.mean) if options.mean else None,
        std=parse_numbers(options.std) if options.std else None,
        size=options.size,
        resize=options.resize,
    )


def parse_numbers(text: str) -> tuple[float, ...]:
    """Read `0.485,0.456,0.406`; WeightsError if that is not numbers."""
    try:
        return tuple(float(word) for word in text.split(","))
    except ValueError as error:
        raise WeightsError(f"{text!r} is not numbers with commas between them, such as 0.485,0.456,0.406") from error


def parse_labels(text: str) -> tuple[str, ...]:
    """Read `cat,dog`, or `@FILE` with a label on each line; WeightsError if the file cannot be read."""
    if not text.startswith("@"):
        return tuple(label.strip() for label in text.split(","))
    try:
        return tuple(Path(text[1:]).read_text(encoding="utf-8").splitlines())
    except (OSError, UnicodeDecodeError) as error:
        raise WeightsError(f"labels cannot be read from {text[1:]}: {error}") from error
