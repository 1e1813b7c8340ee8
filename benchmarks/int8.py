"""What 8 bits bring: speed of ResNet-18 and 50 (untrained), accuracy and speed of released models.

    python -m benchmarks.int8 --data-root DIR [--data NAME=FOLDER ...] [ARTIFACT-DIR ...]

A model in fp32 and the same in 8 bits take turns on one thread, medians are kept. Without directories those of
models/zoo are taken; their accuracy is that on the test split. `--data cifar10=FOLDER` says where images of a data set
are that cannot be downloaded. Writes benchmarks/results/int8.json.
"""

import argparse
import dataclasses
import json
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from benchmarks.result_file import write_result
from benchmarks.serving.untrained import release_untrained
from benchmarks.surroundings import training_surroundings
from models.artifact.artifact import read_artifact
from service.catalog.repository import ZOO
from training.commands.quantize import quantize
from training.options import QuantizeOptions
from training.release.int8_graph import calibrate
from training.release.int8_report import BATCHES, compare_speeds
from training.release.release import assemble

UNTRAINED = ("resnet18", "resnet50")
ROUNDS = 15


def measure_untrained(architecture: str, folder: Path) -> dict[str, Any]:
    """Speed alone: random weights are as fast as trained ones."""
    release_untrained(architecture, folder)
    fp32 = read_artifact(folder / architecture / "1")
    pixels = np.random.default_rng(0).integers(0, 256, (max(BATCHES), *fp32.input_shape), np.uint8)
    metadata = dataclasses.replace(fp32.metadata, precision="int8", golden=())
    calibrated = calibrate(fp32.model, np.split(pixels, len(pixels)))
    int8 = assemble(f"{architecture}-int8", 1, calibrated.in_8_bits(), metadata)
    return speeds(*compare_speeds(fp32, int8, pixels, ROUNDS)) | sizes(fp32.model, int8.model)


def measure_released(directory: Path, places: dict[str, str], data_root: Path, folder: Path) -> dict[str, Any]:
    """Accuracy on the test split, and speed, of a released model and of what `resnet-train quantize` makes of it."""
    data = places.get(str(read_artifact(directory).metadata.metrics.get("data")))
    result = quantize(
        QuantizeOptions(artifact=directory, data=data, data_root=data_root, repository=folder, force=True)
    )
    found = result.comparison
    return {
        "fp32_accuracy": found.accuracies[0] if found.accuracies else None,
        "int8_accuracy": found.accuracies[1] if found.accuracies else None,
        "agreement": found.agreement,
        "in_fp32": result.in_fp32,
        "refused_because": found.shortcomings(),
        **speeds(found.fp32_speeds, found.int8_speeds),
        **sizes(read_artifact(directory).model, read_artifact(result.directory).model),
    }


def speeds(fp32: tuple[float, ...], int8: tuple[float, ...]) -> dict[str, Any]:
    """Images per second, and how many times as many, by the size of the batch."""
    rows = zip(BATCHES, fp32, int8, strict=True)
    return {
        f"batch_{size}": {"fp32": round(a, 1), "int8": round(b, 1), "ratio": round(b / a, 2)} for size, a, b in rows
    }


def sizes(fp32: bytes, int8: bytes) -> dict[str, int]:
    """Bytes of `model.onnx`."""
    return {"fp32_bytes": len(fp32), "int8_bytes": len(int8)}


def main() -> None:
    """Measure, write and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.int8", description=__doc__)
    parser.add_argument("artifacts", metavar="ARTIFACT-DIR", type=Path, nargs="*", default=sorted(ZOO.glob("*/*")))
    parser.add_argument("--data-root", type=Path, default=Path("data"), help="where MNIST/ is")
    parser.add_argument("--data", metavar="NAME=FOLDER", action="append", default=[], help="where another data set is")
    arguments = parser.parse_args()
    places = dict(word.split("=", 1) for word in arguments.data)
    found = {}
    with TemporaryDirectory() as folder:
        for architecture in UNTRAINED:
            found[f"{architecture}, untrained"] = measure_untrained(architecture, Path(folder))
        for directory in arguments.artifacts:
            name = "/".join(directory.absolute().parts[-2:])
            found[name] = measure_released(directory, places, arguments.data_root, Path(folder))
    document = {**training_surroundings("benchmarks.int8", ("onnxruntime", "onnx", "torch", "numpy")), "rounds": ROUNDS}
    write_result("int8", document | {"models": found})
    for name, figures in found.items():
        print(f"{name}: {json.dumps(figures)}")


if __name__ == "__main__":
    main()
