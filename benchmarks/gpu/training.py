"""Images a second of training, by `resnet-train fit` itself on pictures of noise."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np

from benchmarks.gpu.report import RowWriter
from benchmarks.gpu.trip import Trip
from benchmarks.surroundings import ROOT

_CLASSES = 10
_CASES = (
    # recipe, precision, side, images
    ("resnet20-fast", "bf16", 32, 50_000),
    ("resnet20-fast", "fp32", 32, 50_000),
    ("cifar10-resnet18", "bf16", 32, 50_000),
    ("resnet50-imagenet", "bf16", 256, 2_000),
)


def measure(trip: Trip) -> None:
    """Write gpu-training.json."""
    report = RowWriter(
        trip.output, "training", "the second epoch of two, of noise; augmentation and scoring as in a run"
    )
    for recipe, precision, side, images in _CASES[:1] if trip.quick else _CASES:
        row = {"recipe": recipe, "precision": precision}
        if not trip.has(40):
            report.add("training", **row, failed="no time left")
            continue
        try:
            rate = _rate(trip, recipe, precision, _noise(trip.work, side, 400 if trip.quick else images))
            report.add("training", **row, images_per_s=rate)
        except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
            told = RuntimeError(str(error.stderr or error)[-400:])
            report.fail("training", told, **row)


def _noise(folder: Path, side: int, count: int) -> Path:
    path = folder / f"noise-{side}-{count}.npz"
    if not path.exists():
        generator = np.random.default_rng(0)
        pictures = generator.integers(0, 256, (count, side, side, 3), np.uint8)
        labels = generator.integers(0, _CLASSES, count)
        np.savez(path, x_train=pictures, y_train=labels, x_test=pictures[:100], y_test=labels[:100])
    return path


def _rate(trip: Trip, recipe: str, precision: str, data: Path) -> float:
    run = trip.work / f"run-{recipe}-{precision}"
    command = [sys.executable, "-m", "training", "fit", recipe, "--data", str(data), "--epochs", "2"]
    command += ["--device", trip.device, "--precision", precision, "--output", str(run)]
    subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True, timeout=600)
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    rate: float = rows[-1]["images_per_second"]
    return rate
