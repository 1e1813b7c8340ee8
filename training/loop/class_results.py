"""What a score says of each class: the worst first, and which is most often taken for which."""

import csv
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from training.loop.checkpoint import write_atomically

CLASSES_CSV, CONFUSIONS_CSV = "classes.csv", "confusions.csv"
"""Names of the files that hold all of it."""


@dataclass(frozen=True, slots=True)
class Confused:
    """How many images of a class were taken for another."""

    true: str
    predicted: str
    images: int


@dataclass(frozen=True, slots=True)
class ClassResult:
    """Images of a class, how many of them were named right, and what it was most often taken for, if for anything."""

    label: str
    images: int
    right: int
    taken_for: Confused | None

    @property
    def accuracy(self) -> float:
        """The share that was named right; not a number without images."""
        return self.right / self.images if self.images else math.nan


def class_results(confusion: Tensor, labels: Sequence[str]) -> list[ClassResult]:
    """Return the classes of a confusion [true, predicted]: the least accurate first, those without images last."""
    results = []
    for index, row in enumerate(confusion.tolist()):
        others = [(count, other) for other, count in enumerate(row) if other != index and count]
        count, other = max(others, key=lambda pair: (pair[0], -pair[1]), default=(0, index))
        taken_for = Confused(labels[index], labels[other], count) if count else None
        results.append(ClassResult(labels[index], sum(row), row[index], taken_for))
    return sorted(results, key=lambda each: (not each.images, each.accuracy, -each.images))


def confusions(confusion: Tensor, labels: Sequence[str]) -> list[Confused]:
    """Return each pair of a class and one that it was taken for, the most frequent first."""
    pairs = [(row, column) for row, column in confusion.nonzero().tolist() if row != column]
    found = [Confused(labels[row], labels[column], int(confusion[row, column])) for row, column in pairs]
    return sorted(found, key=lambda each: -each.images)


def write_csv(folder: Path, confusion: Tensor, labels: Sequence[str]) -> None:
    """Write all classes and all confusions into the folder; CheckpointError."""
    classes = [
        (each.label, each.images, each.right, "" if math.isnan(each.accuracy) else f"{each.accuracy:.4f}")
        for each in class_results(confusion, labels)
    ]
    pairs = [(each.true, each.predicted, each.images) for each in confusions(confusion, labels)]
    write_atomically(folder / CLASSES_CSV, _csv(("class", "images", "right", "accuracy"), classes))
    write_atomically(folder / CONFUSIONS_CSV, _csv(("true", "predicted", "images"), pairs))


def _csv(header: Sequence[str], rows: Sequence[Sequence[object]]) -> bytes:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([header, *rows])
    return text.getvalue().encode("utf-8", "surrogateescape")
