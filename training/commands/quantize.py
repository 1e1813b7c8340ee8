"""`resnet-train quantize`: a released model in 8 bits, if it is faster for it and hardly worse."""

import dataclasses
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import JsonValue

from models.artifact.artifact import Artifact, read_artifact
from models.engines import golden
from models.engines.loader import load_engine
from training.data import sources
from training.data.dataset import hold_out
from training.data.served_images import served_batches
from training.data.sources import Images
from training.errors import DataError, QuantizeError
from training.loop.scoring import Score, score_model
from training.loop.split_score import Evaluation
from training.options import QuantizeOptions
from training.release.int8_graph import FIRST, LAST, to_int8
from training.release.int8_report import BATCHES, Comparison, compare_speeds
from training.release.release import assemble, now, release, tools

_IN_FP32 = ((), (FIRST,), (FIRST, LAST))
"""Layers that may stay in fp32, in the order in which that is tried."""

_HARDLY_LOST = 0.001
"""Accuracy lost on the images held back, at which no further layer stays in fp32."""

_HELD_BACK = 0.1
"""Share of the training images that layers are chosen by, where the recipe held back none."""


@dataclass(frozen=True, slots=True)
class Quantization:
    """What was written, the layers that stayed in fp32, and how it does beside its source."""

    directory: Path
    in_fp32: tuple[str, ...]
    comparison: Comparison

    def report(self) -> str:
        """A few lines for people."""
        return f"{self.directory}\n  in fp32: {', '.join(self.in_fp32) or 'no layer'}\n{self.comparison.report()}"


def quantize(options: QuantizeOptions) -> Quantization:
    """Write the 8-bit model whole or not at all; raises TrainingError or ArtifactError.

    Ranges are calibrated on training images as a server would see them, which layers stay in fp32 is chosen on images
    held back from training, and the test split tells what it cost. Without `force`, QuantizeError if that is too much.
    """
    source = read_artifact(options.artifact)
    if source.metadata.precision != "fp32":
        raise QuantizeError(
            f"{options.artifact} is in {source.metadata.precision}: quantise the model that it came from"
        )
    data = _data(options, source)
    images, held_back = _split(source, sources.load(data, options.data_root, "train"))
    pixels = _pixels(images, source, options.images)
    draft, in_fp32 = _choose(options, source, pixels, held_back)
    test = sources.load(data, options.data_root, "test")
    before, after = _score(source, test), _score(draft, test)
    comparison = _compare(source, draft, before, after, pixels)
    if (shortcomings := comparison.shortcomings()) and not options.force:
        reasons = ", and ".join(shortcomings)
        raise QuantizeError(f"not written: {reasons} (--force writes it all the same)\n{comparison.report()}")
    evaluation = Evaluation(draft.name, data, "test", draft.labels, after)
    metadata = dataclasses.replace(draft.metadata, metrics=evaluation.metrics | comparison.metrics())
    repository = options.repository or options.artifact.absolute().parent.parent
    directory = release(dataclasses.replace(draft, metadata=metadata), repository, weights=None)
    return Quantization(directory, in_fp32, comparison)


def _data(options: QuantizeOptions, source: Artifact) -> str:
    data = options.data or source.metadata.metrics.get("data")
    if data is None:
        raise DataError(f"{options.artifact} does not say what it was trained on: choose with --data")
    return str(data)


def _split(source: Artifact, images: Images) -> tuple[Images, Images]:
    """Training images to calibrate on, in random order, and others to choose by, never trained on if there are such."""
    fraction = source.metadata.recipe.get("validation")
    return hold_out(images, fraction if isinstance(fraction, float) and fraction else _HELD_BACK)


def _pixels(images: Images, source: Artifact, count: int) -> NDArray[np.uint8]:
    if len(images) < max(BATCHES):
        raise DataError(f"{len(images)} training images are too few to calibrate on")
    chosen = images.take(torch.arange(min(count, len(images))))
    return np.concatenate([pixels for pixels, _ in served_batches(chosen, source.metadata.preprocessing)])


def _choose(
    options: QuantizeOptions, source: Artifact, pixels: NDArray[np.uint8], held_back: Images
) -> tuple[Artifact, tuple[str, ...]]:
    """The model with the fewest layers in fp32 that loses hardly any accuracy, else the one that loses least."""

    def accuracy(model: Artifact) -> float:
        return _score(model, held_back).accuracy

    wanted, tried = accuracy(source), []
    for in_fp32 in _IN_FP32:
        draft = _draft(options, source, to_int8(source.model, pixels, in_fp32), in_fp32, len(pixels))
        lost = wanted - accuracy(draft)
        if lost <= _HARDLY_LOST:
            return draft, in_fp32
        tried.append((lost, draft, in_fp32))
    _, draft, in_fp32 = min(tried, key=lambda each: each[0])
    return draft, in_fp32


def _draft(options: QuantizeOptions, source: Artifact, graph: bytes, in_fp32: tuple[str, ...], images: int) -> Artifact:
    """The 8-bit model with all that is known of it before it has run."""
    quantization: dict[str, JsonValue] = {
        "model": f"{source.name}/{source.version}",
        "sha256": source.sha256,
        "calibration_images": images,
        "in_fp32": list(in_fp32),
    }
    metadata = dataclasses.replace(
        source.metadata,
        precision="int8",
        tolerance={"int8": golden.TOLERANCE["int8"]},
        metrics={},
        recipe=source.metadata.recipe | {"quantization": quantization},
        tools=tools(),
        created=now(),
        golden=(),
    )
    return assemble(f"{source.name}-int8", options.version, graph, metadata)


def _score(model: Artifact, images: Images) -> Score:
    metadata = model.metadata
    run = load_engine(model, threads=torch.get_num_threads()).run
    return score_model(run, metadata.labels, metadata.preprocessing, images)


def _compare(source: Artifact, draft: Artifact, before: Score, after: Score, pixels: NDArray[np.uint8]) -> Comparison:
    fp32_speeds, int8_speeds = compare_speeds(source, draft, pixels)
    return Comparison(
        fp32_accuracy=before.accuracy,
        int8_accuracy=after.accuracy,
        fp32_speeds=fp32_speeds,
        int8_speeds=int8_speeds,
    )
