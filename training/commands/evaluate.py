"""`resnet-train evaluate`: how well a checkpoint or a released model does, by the path that serves it."""

import dataclasses
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import JsonValue
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from models.artifact.artifact import read_artifact, vacant_directory, write_artifact
from models.artifact.reference import ReferenceDistribution
from models.engines.engine import Infer
from models.engines.loader import load_engine
from models.images.preprocessing import Preprocessing
from training.console import print_text
from training.data.fingerprint import Fingerprint
from training.data.image_files import FileSet
from training.errors import CheckpointError, DataError, UsageError
from training.loop.checkpoint import make_folder, read_checkpoint
from training.loop.class_results import class_results, confusions, write_csv
from training.loop.pretrained import may_be_release
from training.loop.scoring import score_model
from training.loop.split_score import SPLITS, Evaluation, load_split
from training.options import EvaluateOptions
from training.release.onnx_export import with_metadata
from training.release.reference_counts import ReferenceCounts
from training.release.release import trained_on
from training.stages import Stages

_MOST_CLASSES, _MOST_CONFUSIONS = 50, 15
"""Rows of the tables on the terminal."""

_ANY_WIDTH, _LEAST_COLUMN = 1 << 16, 3
"""Characters in a line in which every table has room, and of a table's narrowest column."""


@dataclass(frozen=True, slots=True)
class RunnableModel:
    """A checkpoint or a released model, ready to run; `data` and `fingerprints` are of what it was trained on, if it
    says so.
    """

    name: str
    labels: tuple[str, ...]
    preprocessing: Preprocessing
    recipe: dict[str, JsonValue]
    data: str | None
    fingerprints: Sequence[Fingerprint] | None
    infer: Infer


def evaluate(options: EvaluateOptions, stages: Stages | None = None) -> Evaluation:
    """Score a checkpoint file or artifact directory on a split of the data set, or of what it was trained on.

    With `csv` all classes and confusions are written into that folder, with `reference_version` a version of the model
    that knows what it answered. Raises TrainingError or ArtifactError.
    """
    if options.csv is not None:
        make_folder(options.csv, "--csv")
    if options.reference_version is not None:
        _vacant_version(options.model, options.reference_version)
    model = _model(options.model)
    data, split = options.data or model.data, SPLITS[options.split]
    if data is None:
        raise DataError(f"{options.model} does not say what it was trained on; choose with --data")
    images = load_split(data, options.data_root, split, model)
    counts = ReferenceCounts(model.infer, len(model.labels))
    score = score_model(counts, model.labels, model.preprocessing, images, stages or Stages())
    if not math.isfinite(score.loss):
        raise CheckpointError(
            f"{options.model} answers with what is no number (NaN or infinite): its weights are damaged, or of a "
            "training that diverged; give others, or an earlier checkpoint"
        )
    unreadable, notes = (tuple(sorted(images.unreadable)), images.notes) if isinstance(images, FileSet) else ((), ())
    if options.csv is not None:
        write_csv(options.csv, score.confusion, model.labels)
    if options.reference_version is not None:
        _write_version(options.model, options.reference_version, counts.reference())
    return Evaluation(model.name, data, split, model.labels, score, unreadable, notes)


def _model(path: Path) -> RunnableModel:
    if not path.exists():
        raise UsageError(
            f"there is no {path}: give best.pt or last.pt of a run, or a release's <repository>/<model>/<version>"
        )
    return _released(path) if may_be_release(path) else _checkpoint(path)


def _vacant_version(directory: Path, version: int) -> None:
    if not directory.is_dir():
        raise UsageError(f"{directory} is no released model: `resnet-train export` gives one its reference")
    directory = directory.absolute()
    vacant_directory(directory.parent.parent, directory.parent.name, version)


def _write_version(directory: Path, version: int, reference: ReferenceDistribution) -> None:
    """The same model beside itself, in 8 bits too if it is, with this reference."""
    source = read_artifact(directory)
    metadata = dataclasses.replace(source.metadata, reference=reference)
    model, int8 = with_metadata(source.model, metadata), source.int8.model if source.int8 else None
    write_artifact(directory.absolute().parent.parent, source.name, version, model, source.weights, int8)


def _released(directory: Path) -> RunnableModel:
    artifact = read_artifact(directory)
    metadata = artifact.metadata
    infer = load_engine(artifact, threads=torch.get_num_threads()).run
    name = f"{artifact.name}/{artifact.version}"
    origin = metadata.recipe, trained_on(metadata), None
    return RunnableModel(name, artifact.labels, metadata.preprocessing, *origin, infer)


def _checkpoint(path: Path) -> RunnableModel:
    checkpoint = read_checkpoint(path)
    network = checkpoint.pixel_net()

    def infer(images: NDArray[np.uint8]) -> NDArray[np.float32]:
        with torch.inference_mode():
            logits: NDArray[np.float32] = network(torch.from_numpy(images)).numpy()
        return logits

    labels, preprocessing = checkpoint.labels, checkpoint.preprocessing
    origin = checkpoint.recipe, checkpoint.data, checkpoint.fingerprints
    return RunnableModel(str(path), labels, preprocessing, *origin, infer)


def print_evaluation(evaluation: Evaluation, console: Console, *, as_json: bool = False) -> None:
    """Print accuracy, and the confusion matrix, or where that is too wide the worst classes and confusions."""
    if as_json:
        print_text(console, evaluation.to_json())
        return
    metrics = evaluation.metrics
    print_text(
        console,
        f"{evaluation.model} on {evaluation.data}, {metrics['images']:,} images of the {evaluation.split} split: "
        f"accuracy {metrics['accuracy']:.2%} ± {metrics['standard_error']:.2%}, loss {metrics['loss']:.4f}",
    )
    if evaluation.unreadable:
        console.print(f"passed over, as no images: {', '.join(evaluation.unreadable)}", highlight=False, markup=False)
    for note in evaluation.notes:
        print_text(console, note)
    if (matrix := _matrix(evaluation, console)) is not None:
        console.print(matrix)
        return
    for table in _lists(evaluation):
        console.print(table)


def _matrix(evaluation: Evaluation, console: Console) -> Table | None:
    """The confusion matrix, if the console has room for it."""
    if len(evaluation.labels) * _LEAST_COLUMN > console.width:
        return None
    table = _table("true class, and what it was taken for")
    for heading in ("class", "accuracy", *map(escape, evaluation.labels)):
        table.add_column(heading, justify="right", no_wrap=True)
    for (label, share), row in zip(evaluation.by_class.items(), evaluation.score.confusion.tolist(), strict=True):
        table.add_row(
            escape(label), "" if math.isnan(share) else f"{share:.2%}", *(str(count) if count else "·" for count in row)
        )
    needed = console.measure(table, options=console.options.update_width(_ANY_WIDTH)).maximum
    return table if needed <= console.width else None


def _lists(evaluation: Evaluation) -> Iterator[Table | str]:
    """The classes, then the pairs that are confused, the worst first; of many as many as a reader looks at."""
    confusion, labels = evaluation.score.confusion, evaluation.labels
    results, pairs = class_results(confusion, labels), confusions(confusion, labels)
    table = _table("classes, the least accurate first")
    table.add_column("class", overflow="fold")
    table.add_column("accuracy", justify="right", no_wrap=True)
    table.add_column("images", justify="right", no_wrap=True)
    table.add_column("most often taken for", overflow="fold")
    for each in results[:_MOST_CLASSES]:
        taken = f"{escape(each.taken_for.predicted)} {each.taken_for.images:,}" if each.taken_for else ""
        share = f"{each.accuracy:.2%}" if each.images else ""
        table.add_row(escape(each.label), share, f"{each.images:,}", taken)
    yield table
    table = _table("the most frequent confusions")
    table.add_column("class", overflow="fold")
    table.add_column("taken for", overflow="fold")
    table.add_column("images", justify="right", no_wrap=True)
    for pair in pairs[:_MOST_CONFUSIONS]:
        table.add_row(escape(pair.true), escape(pair.predicted), f"{pair.images:,}")
    if pairs:
        yield table
    left = [
        f"{len(found) - most:,} more {what}"
        for found, most, what in ((results, _MOST_CLASSES, "classes"), (pairs, _MOST_CONFUSIONS, "confusions"))
        if len(found) > most
    ]
    if left:
        yield f"and {' and '.join(left)}: --csv FOLDER writes all"


def _table(title: str) -> Table:
    return Table(title=title, title_justify="left", box=SIMPLE_HEAD, padding=(0, 1))
