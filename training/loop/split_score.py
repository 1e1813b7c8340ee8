"""What a model scored on a split, and which images a split is."""

import json
import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, Literal, Protocol

from pydantic import JsonValue

from training.data import sources
from training.data.image_files import FileSet
from training.data.sources import Images
from training.errors import CheckpointError
from training.loop.learned_images import Learner, count_learned
from training.loop.scoring import Score, standard_error
from training.options import SplitChoice

EvaluationSplit = Literal["validation", "test"]

SPLITS: Final[dict[SplitChoice, EvaluationSplit]] = {"val": "validation", "test": "test"}
"""The name in figures and metadata of what the command line calls val and test."""

_UNKNOWN = (
    "{} has no test/, so all of it counts as test images. On which images the model was trained is not known: the "
    "accuracy holds only if these are none of them"
)

_DRAWN = (
    "on which images the model was trained is not known: the accuracy holds only if no images were added to {} or "
    "removed since, as others would be held back now"
)


@dataclass(frozen=True, slots=True)
class Evaluation:
    """What a model scored on a split; `unreadable` names the files that are no images and were passed over.

    `notes` say what else there is to know of the images.
    """

    model: str
    data: str
    split: EvaluationSplit
    labels: tuple[str, ...]
    score: Score
    unreadable: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

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


class TrainingOrigin(Learner, Protocol):
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
    CheckpointError if the model has learned from such a folder's images, or from those that are held back.
    """
    if split == "test":
        return _test_split(data, data_root, trained)
    fraction = trained.recipe.get("validation")
    images = sources.load_validation(data, data_root, fraction if isinstance(fraction, float) else 0.0)
    if count := count_learned(images, trained):
        raise CheckpointError(
            f"at least {count:,} of the {len(images):,} images of {data} to be held back now are among those that the "
            "model was trained on: with images added or removed since, others are drawn. Give --data as it was, put "
            "images that are new to the model into a val/, or measure on the test split, by --split test"
        )
    if trained.fingerprints is None and isinstance(images, FileSet) and sources.validation_folder(data) is None:
        return replace(images, notes=(*images.notes, _DRAWN.format(data)))
    return images


def _test_split(data: str, data_root: Path, trained: TrainingOrigin) -> Images:
    if trained.data is not None and _absolute(data) == _absolute(trained.data):
        return sources.load(data, data_root, "test")
    images, is_whole = sources.load_test(data, data_root)
    if not is_whole:
        return images
    if count := count_learned(images, trained):
        raise CheckpointError(
            f"at least {count:,} of the {len(images):,} images of {data} are among those that the model was trained "
            "on: it is no test split; give other images, or a folder with those that are new to the model in test/"
        )
    if trained.fingerprints is None and isinstance(images, FileSet):
        return replace(images, notes=(*images.notes, _UNKNOWN.format(data)))
    return images


def _absolute(data: str) -> Path:
    return Path(data).expanduser().resolve()
