"""What weights leave unsaid: the pictures that a network expects, and the names of its classes."""

from dataclasses import dataclass, fields
from pathlib import Path

from pydantic import ValidationError

from models.images.preprocessing import Preprocessing
from training.errors import WeightsError

_LEAST_CROPPED = 224  # pixels; smaller pictures are resized to the network's size, with nothing to crop
_RESIZE_TO_CROP = 256 / 224  # how ImageNet's networks are evaluated, unless their publisher says otherwise


@dataclass(frozen=True, slots=True, kw_only=True)
class Contract:
    """None where it is not known; `mean` and `std` are fractions of 255, `size` and `resize` pixels."""

    labels: tuple[str, ...] | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    size: int | None = None
    resize: int | None = None

    def over(self, other: "Contract") -> "Contract":
        """Return this, with the other's word wherever this says nothing."""
        pairs = {field.name: (getattr(self, field.name), getattr(other, field.name)) for field in fields(self)}
        return Contract(**{name: theirs if mine is None else mine for name, (mine, theirs) in pairs.items()})

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
            raise WeightsError("two labels are the same: nobody could tell these classes apart")
        size = self.size or side
        resize = self.resize or (size if size < _LEAST_CROPPED else round(size * _RESIZE_TO_CROP))
        try:
            return self.labels, _preprocessing(size, resize, self.mean, self.std)
        except ValidationError as error:
            problems = (f"{'.'.join(map(str, problem['loc']))} {problem['msg']}".strip() for problem in error.errors())
            raise WeightsError("; ".join(problems)) from error


def _preprocessing(size: int, resize: int, mean: tuple[float, ...], std: tuple[float, ...]) -> Preprocessing:
    return Preprocessing(
        mode="RGB",
        height=size,
        width=size,
        exif_transpose=True,
        background=(255, 255, 255),
        sixteen_bit="high_byte",
        polarity="as_is",
        resize=resize,
        crop="center",
        interpolation="bilinear",
        antialias=True,
        draft=False,  # the pixels are then torchvision's, to one grey level
        mean=mean,
        std=std,
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
