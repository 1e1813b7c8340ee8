"""`resnet-train quantize`: a released model in 8 bits, if it is faster for it and hardly worse."""

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import JsonValue

from models.artifact.artifact import Artifact, highest_version, read_artifact, vacant_directory, write_artifact
from models.artifact.onnx_file import graph_sha256
from models.engines import golden
from models.engines.engine import Infer
from models.engines.loader import load_engine
from training.data.calibration_images import FEWEST, CalibrationImages, load_calibration_images
from training.data.served_images import served_batches
from training.data.sources import Images
from training.errors import DataError, QuantizeError
from training.loop.scoring import PairedScore, score_pair
from training.loop.split_score import Evaluation
from training.options import QuantizeOptions
from training.release.int8_graph import CALIBRATION_BATCH, FIRST, LAST, WEIGHT_BITS, CalibratedGraph, calibrate
from training.release.int8_report import Comparison, compare_speeds
from training.release.reference_counts import ReferenceCounts
from training.release.release import assemble, now, prove, tools, trained_on
from training.stages import Stages

_IN_FP32 = ((), (FIRST,), (FIRST, LAST))
"""Layers that may stay in fp32, in the order in which that is tried."""

_HARDLY_LOST, _HARDLY_CHANGED = 0.001, 0.01
"""Accuracy lost on the images held back, or else share of them whose class changes, at which no further layer stays in
fp32."""


@dataclass(frozen=True, slots=True)
class Quantization:
    """What was written, on how many images it was calibrated, the layers that stayed in fp32, and how it does beside
    its source.
    """

    directory: Path
    calibration_images: int
    in_fp32: tuple[str, ...]
    comparison: Comparison

    def report(self) -> str:
        """A few lines for people."""
        return (
            f"{self.directory}\n  calibrated on {self.calibration_images:,} images; in fp32: "
            f"{', '.join(self.in_fp32) or 'no layer'}\n{self.comparison.report()}"
        )


def quantize(options: QuantizeOptions, stages: Stages | None = None) -> Quantization:
    """Write the 8-bit model whole or not at all; raises TrainingError or ArtifactError, if it can before any work.

    Ranges are calibrated on images as a server would see them, which layers stay in fp32 is chosen on others, and the
    test split tells what it cost. Without a test split of the model's classes both are told by how often the models
    agree. Without `force`, QuantizeError if it costs too much.
    """
    stages = stages or Stages()
    source = _source(options)
    repository = options.repository or options.artifact.absolute().parent.parent
    name, version = _place(options, source, repository)
    vacant_directory(repository, name, version)
    data = _data(options, source)
    images = load_calibration_images(data, options.data_root, source.labels, source.metadata.recipe.get("validation"))
    sample = _sample(images.calibration, source, data)
    calibrated, count = _calibrate(options, source, images.calibration, stages)
    draft, in_fp32 = _choose(options, source, calibrated, count, images, stages)
    counts = ReferenceCounts(_infer(draft), draft.classes)
    paired = _pair(source, counts, images.judged, images.labelled, stages)
    stages.begin("measuring speeds")
    comparison = _compare(source, draft, paired, sample)
    if (shortcomings := comparison.shortcomings()) and not options.force:
        reasons = ", and ".join(shortcomings)
        raise QuantizeError(f"not written: {reasons} (--force writes it all the same)\n{comparison.report()}")
    metrics = _metrics(draft, data, paired) | comparison.metrics()
    metadata = dataclasses.replace(draft.metadata, metrics=metrics, reference=counts.reference())
    int8 = prove(dataclasses.replace(draft, metadata=metadata)).model
    if options.beside:
        directory = write_artifact(repository, name, version, source.model, source.weights, int8)
    else:
        directory = write_artifact(repository, name, version, int8, None)
    return Quantization(directory, count, in_fp32, comparison)


def _source(options: QuantizeOptions) -> Artifact:
    source = read_artifact(options.artifact)
    if source.metadata.precision != "fp32":
        raise QuantizeError(
            f"{options.artifact} is in {source.metadata.precision}: quantise the model that it came from"
        )
    return source


def _place(options: QuantizeOptions, source: Artifact, repository: Path) -> tuple[str, int]:
    """The name and version to write."""
    if not options.beside:
        return f"{source.name}-int8", options.version or 1
    return source.name, options.version or 1 + highest_version(repository, source.name)


def _data(options: QuantizeOptions, source: Artifact) -> str:
    data = options.data or trained_on(source.metadata)
    if data is None:
        raise DataError(
            f"{options.artifact} does not say what it was trained on: give with --data a data set of its classes, or a "
            "folder of any pictures such as it will be asked about"
        )
    return data


def _sample(images: Images, source: Artifact, data: str) -> NDArray[np.uint8]:
    """A few images [n, h, w, c], which are there before any work begins."""
    some = images.take(torch.arange(min(len(images), 4 * FEWEST)))
    pixels = [each for batch, _ in served_batches(some, source.metadata.preprocessing) for each in batch]
    if len(pixels) < FEWEST:
        raise DataError(
            f"of the first {len(some)} files of {data} {len(pixels)} are pictures: at least {FEWEST} must be"
        )
    return np.stack(pixels[:FEWEST])


def _calibrate(
    options: QuantizeOptions, source: Artifact, images: Images, stages: Stages
) -> tuple[CalibratedGraph, int]:
    """The graph with its ranges, and on how many images they were met: files that are none are passed over."""
    chosen, count = images.take(torch.arange(min(options.images, len(images)))), 0

    def met() -> Iterator[NDArray[np.uint8]]:
        nonlocal count
        for pixels, _ in served_batches(chosen, source.metadata.preprocessing, CALIBRATION_BATCH):
            count += len(pixels)
            yield pixels

    told = stages.track(met(), f"calibrating on {len(chosen):,} images", len(chosen), len)
    return calibrate(source.model, told, options.calibration), count


def _choose(
    options: QuantizeOptions,
    source: Artifact,
    calibrated: CalibratedGraph,
    count: int,
    images: CalibrationImages,
    stages: Stages,
) -> tuple[Artifact, tuple[str, ...]]:
    """The model with the fewest layers in fp32 that loses hardly anything, else the one that loses least."""
    tried = []
    for in_fp32 in _IN_FP32:
        draft = _draft(options, source, calibrated.in_8_bits(in_fp32), in_fp32, count)
        paired = _pair(source, _infer(draft), images.choice, images.labelled, stages)
        lost, hardly = _lost(paired)
        if lost <= hardly:
            return draft, in_fp32
        tried.append((lost, draft, in_fp32))
    _, draft, in_fp32 = min(tried, key=lambda each: each[0])
    return draft, in_fp32


def _lost(paired: PairedScore) -> tuple[float, float]:
    """What the second model has lost, and what of that is hardly anything."""
    if paired.scores is None:
        return 1 - paired.agreement, _HARDLY_CHANGED
    before, after = paired.scores
    return before.accuracy - after.accuracy, _HARDLY_LOST


def _draft(options: QuantizeOptions, source: Artifact, graph: bytes, in_fp32: tuple[str, ...], images: int) -> Artifact:
    """The 8-bit model with all that is known of it before it has run."""
    quantization: dict[str, JsonValue] = {
        "model": f"{source.name}/{source.version}",
        "sha256": source.sha256,
        "graph_sha256": graph_sha256(source.model),
        "calibration": options.calibration,
        "calibration_images": images,
        "weight_bits": WEIGHT_BITS,
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
        reference=None,
    )
    return assemble(f"{source.name}-int8", source.version, graph, metadata)


def _infer(model: Artifact) -> Infer:
    return load_engine(model, threads=torch.get_num_threads()).run


def _pair(source: Artifact, int8: Infer, images: Images, labelled: bool, stages: Stages) -> PairedScore:
    models, told = (_infer(source), int8), source.metadata
    return score_pair(models, told.labels, told.preprocessing, images, labelled=labelled, stages=stages)


def _metrics(draft: Artifact, data: str, paired: PairedScore) -> dict[str, str | int | float]:
    if paired.scores is None:
        return {"data": data, "images": paired.images}
    return Evaluation(draft.name, data, "test", draft.labels, paired.scores[1]).metrics


def _compare(source: Artifact, draft: Artifact, paired: PairedScore, sample: NDArray[np.uint8]) -> Comparison:
    fp32_speeds, int8_speeds = compare_speeds(source, draft, sample)
    accuracies = None
    if paired.scores is not None:
        accuracies = paired.scores[0].accuracy, paired.scores[1].accuracy
    return Comparison(
        images=paired.images,
        agreement=paired.agreement,
        accuracies=accuracies,
        fp32_speeds=fp32_speeds,
        int8_speeds=int8_speeds,
    )
