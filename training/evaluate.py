"""`resnet-train evaluate`: how well a checkpoint or a released model does, by the path that serves it."""

import json
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from pydantic import JsonValue
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from torch.nn import functional as F

from models import registry
from models.artifact import Preprocessing, read_artifact
from models.engines import load_engine
from models.preprocess import MAX_PIXELS, Preprocessor
from training import sources
from training.checkpoint import Checkpoint, read_checkpoint
from training.data import ImageSet, hold_out
from training.errors import CheckpointError, DataError
from training.graph import PixelNet
from training.score import Score

Split = Literal["validation", "test"]

_BATCH = 256


@dataclass(frozen=True, slots=True)
class Model:
    """A checkpoint or a released model, ready to run; `data` is what it was trained on, if it says so."""

    name: str
    labels: tuple[str, ...]
    preprocessing: Preprocessing
    recipe: dict[str, JsonValue]
    data: str | None
    run: Callable[[NDArray[np.uint8]], NDArray[np.float32]]


@dataclass(frozen=True, slots=True)
class Evaluation:
    """What a model scored on a split."""

    model: str
    data: str
    split: Split
    labels: tuple[str, ...]
    score: Score

    @property
    def metrics(self) -> dict[str, str | int | float]:
        """The figures for a release's metadata; the standard error is the binomial one."""
        images, accuracy = int(self.score.confusion.sum()), self.score.accuracy
        error = math.sqrt(accuracy * (1 - accuracy) / images)
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
        return json.dumps({"model": self.model, **self.metrics, "by_class": by_class, "confusion": confusion})


def evaluate(path: Path, data: str | None, data_root: Path, split: Split) -> Evaluation:
    """Score the checkpoint file or artifact directory at `path` on a split of `data`, or of what it was trained on.

    Raises TrainingError or ArtifactError.
    """
    model = load_model(path)
    data = data or model.data
    if data is None:
        raise DataError(f"{path} does not say what it was trained on; choose with --data")
    images = load_split(data, data_root, split, model.recipe)
    return Evaluation(model.name, data, split, model.labels, score(model, images))


def load_model(path: Path) -> Model:
    """Make a checkpoint run in PyTorch, or a released model in its engine; raises TrainingError or ArtifactError."""
    if not path.is_dir():
        return _checkpoint(path)
    artifact = read_artifact(path)
    metadata = artifact.metadata
    data = metadata.metrics.get("data")
    data = None if data is None else str(data)
    run = load_engine(artifact, threads=torch.get_num_threads()).run
    name = f"{artifact.name}/{artifact.version}"
    return Model(name, artifact.labels, metadata.preprocessing, metadata.recipe, data, run)


def load_split(data: str, data_root: Path, split: Split, recipe: dict[str, JsonValue]) -> ImageSet:
    """The test split, or the images that the recipe holds back from training; DataError if there are none."""
    if split == "test":
        return sources.load(data, data_root, "test")
    fraction = recipe.get("validation")
    if not isinstance(fraction, float) or not fraction:
        raise DataError("the recipe held back no images for validation; evaluate on the test split")
    return hold_out(sources.load(data, data_root, "train"), fraction)[1]


def score(model: Model, images: ImageSet) -> Score:
    """Encode each image, decode and preprocess it as a server does, and count what the model makes of it."""
    if images.classes != model.labels:
        raise DataError(f"{model.name} knows the classes {model.labels}, the data has {images.classes}")
    classes, loss = len(model.labels), 0.0
    confusion = torch.zeros(classes * classes, dtype=torch.int64)
    for pixels, labels in served(images, model.preprocessing):
        logits = torch.from_numpy(model.run(pixels))
        loss += F.cross_entropy(logits, labels, reduction="sum").item()
        confusion += torch.bincount(labels * classes + logits.argmax(1), minlength=classes * classes)
    return Score(loss / len(images), confusion.view(classes, classes))


def served(
    images: ImageSet, preprocessing: Preprocessing, batch: int = _BATCH
) -> Iterator[tuple[NDArray[np.uint8], torch.Tensor]]:
    """Batches of pixels [n, h, w, c] as a server would see these images, sent as PNG; and their labels."""
    preprocessor = Preprocessor(preprocessing, MAX_PIXELS)
    for first in range(0, len(images), batch):
        arrays = images.images[first : first + batch].permute(0, 2, 3, 1).numpy()
        yield np.stack([preprocessor(_png(array)) for array in arrays]), images.labels[first : first + batch]


def print_evaluation(evaluation: Evaluation, console: Console) -> None:
    """Print accuracy, accuracy by class, and the confusion matrix."""
    metrics = evaluation.metrics
    console.print(
        f"{evaluation.model} on {evaluation.data}, {metrics['images']:,} images of the {evaluation.split} split: "
        f"accuracy {metrics['accuracy']:.2%} ± {metrics['standard_error']:.2%}, loss {metrics['loss']:.4f}",
        highlight=False,
        soft_wrap=True,
    )
    table = Table(title="true class, and what it was taken for", title_justify="left", box=SIMPLE_HEAD, padding=(0, 1))
    for heading in ("class", "accuracy", *evaluation.labels):
        table.add_column(heading, justify="right", no_wrap=True)
    for (label, share), row in zip(evaluation.by_class.items(), evaluation.score.confusion.tolist(), strict=True):
        table.add_row(label, f"{share:.2%}", *(str(count) if count else "·" for count in row))
    console.print(table)


def load_network(checkpoint: Checkpoint) -> PixelNet:
    """The checkpoint's network behind its normalisation, in evaluation mode; CheckpointError if they do not fit."""
    try:
        network = registry.build(checkpoint.architecture, classes=len(checkpoint.labels), **checkpoint.arguments)
        network.load_state_dict(checkpoint.weights)
    except (registry.ArchitectureError, RuntimeError) as error:
        raise CheckpointError(f"the checkpoint's weights are not a {checkpoint.architecture}'s: {error}") from error
    return PixelNet(network, checkpoint.preprocessing).eval()


def _checkpoint(path: Path) -> Model:
    checkpoint = read_checkpoint(path)
    network = load_network(checkpoint)

    def run(images: NDArray[np.uint8]) -> NDArray[np.float32]:
        with torch.inference_mode():
            logits: NDArray[np.float32] = network(torch.from_numpy(images)).numpy()
        return logits

    labels, preprocessing = checkpoint.labels, checkpoint.preprocessing
    return Model(str(path), labels, preprocessing, checkpoint.recipe, checkpoint.data, run)


def _png(array: NDArray[np.uint8]) -> bytes:
    """Pixels [h, w, c] as a PNG: whatever the data set's own format, nothing is lost."""
    stream = BytesIO()
    Image.fromarray(array.squeeze(2) if array.shape[2] == 1 else array).save(stream, "PNG", compress_level=1)
    return stream.getvalue()
