"""What a model scored on a split, and which images a split is."""

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal, Protocol

from pydantic import JsonValue

from training.data import sources
from training.data.sources import Images
from training.loop.scoring import Score, standard_error
from training.options import SplitChoice

EvaluationSplit = Literal["validation", "test"]

SPLITS: Final[dict[SplitChoice, EvaluationSplit]] = {"val": "validation", "test": "test"}
"""The name in figures and metadata of what the command line calls val and test."""


@dataclass(frozen=True, slots=True)
class Evaluation:
    """What a model scored on a split; `unreadable` names the files that are no images and were passed over."""

    model: str
    data: str
    split: EvaluationSplit
    labels: tuple[str, ...]
    score: Score
    unreadable: tuple[str, ...] = ()

    @property
    def metrics(self) -> dict[str, str | int | float]:
        """The figures for a release's metadata."""
        images, accuracy = int(self.score.confusion.sum()), self.score.accuracy
        error = standard_error(accuracy, images)
        figures = {"images": images, "accuracy": accuracy, "standard_error": error, "loss": self.score.loss}
        return {"data": self.data, "split": self.split, **figures}

    @property
    def by_class(self) -> dict[str, float]:
        """For each label the share of its images that was named right; not a number where there is none."""
        confusion = self.score.confusion.double()
        shares = (confusion.diag() / confusion.sum(1)).tolist()
        return dict(zip(self.labels, shares, strict=True))

    def to_json(self) -> str:
        """All of it, the confusion matrix with a row for each true class."""
        by_class = {label: None if math.isnan(share) else share for label, share in self.by_class.items()}
        confusion = self.score.confusion.tolist()
        counts = {"by_class": by_class, "confusion": confusion, "unreadable": self.unreadable}
        return json.dumps({"model": self.model, **self.metrics, **counts})


class TrainingOrigin(Protocol):
    """What says on which data set, and by which recipe, it was trained."""

    @property
    def data(self) -> str | None:
        """Name or path of the data set."""
        ...

    @property
    def recipe(self) -> dict[str, JsonValue]:
        """The recipe's table."""
        ...


def load_split(data: str, data_root: Path, split: EvaluationSplit, trained: TrainingOrigin) -> Images:
    """The test split, or the images that the recipe holds back from training; DataError if there are none.

    An image folder that has no test/ is a test split as a whole, unless it is what the model was trained on.
    """
    if split == "test":
        trained_on = trained.data is not None and _absolute(data) == _absolute(trained.data)
        return sources.load(data, data_root, "test", whole=not trained_on)
    fraction = trained.recipe.get("validation")
    return sources.load_validation(data, data_root, fraction if isinstance(fraction, float) else 0.0)


def _absolute(data: str) -> Path:
    return Path(data).expanduser().resolve()
