"""`resnet-train evaluate`: how well a checkpoint or a released model does, by the path that serves it."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import JsonValue
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from models.artifact.artifact import read_artifact
from models.engines.loader import load_engine
from models.images.preprocessing import Preprocessing
from training.data.image_files import FileSet
from training.errors import DataError
from training.loop.checkpoint import read_checkpoint
from training.loop.scoring import score_model
from training.loop.split_score import SPLITS, Evaluation, load_split
from training.options import EvaluateOptions


@dataclass(frozen=True, slots=True)
class RunnableModel:
    """A checkpoint or a released model, ready to run; `data` is what it was trained on, if it says so."""

    name: str
    labels: tuple[str, ...]
    preprocessing: Preprocessing
    recipe: dict[str, JsonValue]
    data: str | None
    run: Callable[[NDArray[np.uint8]], NDArray[np.float32]]


def evaluate(options: EvaluateOptions) -> Evaluation:
    """Score a checkpoint file or artifact directory on a split of the data set, or of what it was trained on.

    Raises TrainingError or ArtifactError.
    """
    model = _released(options.model) if options.model.is_dir() else _checkpoint(options.model)
    data, split = options.data or model.data, SPLITS[options.split]
    if data is None:
        raise DataError(f"{options.model} does not say what it was trained on; choose with --data")
    images = load_split(data, options.data_root, split, model)
    score = score_model(model.run, model.labels, model.preprocessing, images)
    unreadable = tuple(sorted(images.unreadable)) if isinstance(images, FileSet) else ()
    return Evaluation(model.name, data, split, model.labels, score, unreadable)


def _released(directory: Path) -> RunnableModel:
    artifact = read_artifact(directory)
    metadata = artifact.metadata
    data = metadata.metrics.get("data")
    run = load_engine(artifact, threads=torch.get_num_threads()).run
    name = f"{artifact.name}/{artifact.version}"
    recipe, trained_on = metadata.recipe, None if data is None else str(data)
    return RunnableModel(name, artifact.labels, metadata.preprocessing, recipe, trained_on, run)


def _checkpoint(path: Path) -> RunnableModel:
    checkpoint = read_checkpoint(path)
    network = checkpoint.pixel_net()

    def run(images: NDArray[np.uint8]) -> NDArray[np.float32]:
        with torch.inference_mode():
            logits: NDArray[np.float32] = network(torch.from_numpy(images)).numpy()
        return logits

    labels, preprocessing = checkpoint.labels, checkpoint.preprocessing
    return RunnableModel(str(path), labels, preprocessing, checkpoint.recipe, checkpoint.data, run)


def print_evaluation(evaluation: Evaluation, console: Console, *, as_json: bool = False) -> None:
    """Print accuracy, accuracy by class, and the confusion matrix."""
    if as_json:
        console.print(evaluation.to_json(), highlight=False, markup=False, soft_wrap=True)
        return
    metrics = evaluation.metrics
    console.print(
        f"{evaluation.model} on {evaluation.data}, {metrics['images']:,} images of the {evaluation.split} split: "
        f"accuracy {metrics['accuracy']:.2%} ± {metrics['standard_error']:.2%}, loss {metrics['loss']:.4f}",
        highlight=False,
        soft_wrap=True,
    )
    if evaluation.unreadable:
        console.print(f"passed over, as no images: {', '.join(evaluation.unreadable)}", highlight=False, markup=False)
    console.print(_table(evaluation))


def _table(evaluation: Evaluation) -> Table:
    table = Table(title="true class, and what it was taken for", title_justify="left", box=SIMPLE_HEAD, padding=(0, 1))
    for heading in ("class", "accuracy", *evaluation.labels):
        table.add_column(heading, justify="right", no_wrap=True)
    for (label, share), row in zip(evaluation.by_class.items(), evaluation.score.confusion.tolist(), strict=True):
        table.add_row(label, f"{share:.2%}", *(str(count) if count else "·" for count in row))
    return table
