"""`resnet-train evaluate`: how well a checkpoint or a released model does, by the path that serves it."""

import json
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from io import BytesIO
from itertools import islice
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

from models.artifact.artifact import read_artifact
from models.engines.loader import load_engine
from models.images.preprocessing import Preprocessing
from models.images.preprocessor import MAX_PIXELS, Preprocessor
from models.networks import registry
from training.data import sources
from training.data.dataset import ImageSet, renamed
from training.data.image_files import FileSet
from training.data.sources import Images
from training.errors import CheckpointError, DataError
from training.loop.checkpoint import Checkpoint, read_checkpoint
from training.loop.scoring import Score
from training.release.onnx_export import PixelNet

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
    unreadable: tuple[str, ...] = ()
    """Names of the files that are no images: they were passed over."""

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
        counts = {"by_class": by_class, "confusion": confusion, "unreadable": self.unreadable}
        return json.dumps({"model": self.model, **self.metrics, **counts})


def evaluate(path: Path, data: str | None, data_root: Path, split: Split) -> Evaluation:
    """Score the checkpoint file or artifact directory at `path` on a split of `data`, or of what it was trained on.

    Raises TrainingError or ArtifactError.
    """
    model = load_model(path)
    data = data or model.data
    if data is None:
        raise DataError(f"{path} does not say what it was trained on; choose with --data")
    images = load_split(data, data_root, split, model)
    scored = score(model, images)
    unreadable = tuple(sorted(images.unreadable)) if isinstance(images, FileSet) else ()
    return Evaluation(model.name, data, split, model.labels, scored, unreadable)


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


def load_split(data: str, data_root: Path, split: Split, trained: Model | Checkpoint) -> Images:
    """The test split, or the images that the recipe holds back from training; DataError if there are none.

    An image folder that has no test/ is a test split as a whole, unless it is what the model was trained on.
    """
    if split == "test":
        trained_on = trained.data is not None and Path(data).resolve() == Path(trained.data).resolve()
        return sources.load(data, data_root, "test", whole=not trained_on)
    fraction = trained.recipe.get("validation")
    return sources.load_validation(data, data_root, fraction if isinstance(fraction, float) else 0.0)


def score(model: Model, images: Images) -> Score:
    """Encode each image, decode and preprocess it as a server does, and count what the model makes of it.

    Classes are matched by name; DataError names those that the model does not know.
    """
    images = renamed(images, model.labels, "the data")
    classes, loss = len(model.labels), 0.0
    confusion = torch.zeros(classes * classes, dtype=torch.int64)
    for pixels, labels in served(images, model.preprocessing):
        logits = torch.from_numpy(model.run(pixels))
        loss += F.cross_entropy(logits, labels, reduction="sum").item()
        confusion += torch.bincount(labels * classes + logits.argmax(1), minlength=classes * classes)
    if not (read := int(confusion.sum())):
        raise DataError("none of the images can be read")
    return Score(loss / read, confusion.view(classes, classes))


def served(
    images: Images, preprocessing: Preprocessing, batch: int = _BATCH
) -> Iterator[tuple[NDArray[np.uint8], torch.Tensor]]:
    """Batches of pixels [n, h, w, c] as a server would see these images, and their labels; DataError if there are none.

    Image files are sent as they are, and passed over if they cannot be read; images in memory are sent as PNG.
    """
    pairs = images.pixels(preprocessing) if isinstance(images, FileSet) else _sent(images, preprocessing)
    while pairs_of_batch := list(islice(pairs, batch)):
        pixels, labels = zip(*pairs_of_batch, strict=True)
        yield np.stack(pixels), torch.tensor(labels)


def _sent(images: ImageSet, preprocessing: Preprocessing) -> Iterator[tuple[NDArray[np.uint8], int]]:
    preprocessor = Preprocessor(preprocessing, MAX_PIXELS)
    for image, label in zip(images.images, images.labels.tolist(), strict=True):
        yield preprocessor(_png(image.permute(1, 2, 0).numpy())), label


def print_evaluation(evaluation: Evaluation, console: Console) -> None:
    """Print accuracy, accuracy by class, and the confusion matrix."""
    metrics = evaluation.metrics
    console.print(
        f"{evaluation.model} on {evaluation.data}, {metrics['images']:,} images of the {evaluation.split} split: "
        f"accuracy {metrics['accuracy']:.2%} ± {metrics['standard_error']:.2%}, loss {metrics['loss']:.4f}",
        highlight=False,
        soft_wrap=True,
    )
    if evaluation.unreadable:
        console.print(f"passed over, as no images: {', '.join(evaluation.unreadable)}", highlight=False, markup=False)
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
