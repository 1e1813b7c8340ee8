"""What it costs a model that a picture's colour profile is passed over: a phone's Display P3 taken for sRGB.

    python -m benchmarks.wide_gamut --data FOLDER [ARTIFACT-DIR]

FOLDER holds CIFAR-10's test images as an image folder or an archive of one. They are written as a phone would, in 8
bits of Display P3 or of Adobe RGB (1998), and classified twice: as those levels stand, as this server does it, and
converted back to sRGB, as a colour-managed viewer does it. Writes benchmarks/results/wide_gamut.json.
"""

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.result_file import write_result
from benchmarks.surroundings import ROOT, training_surroundings
from models.artifact.artifact import read_artifact
from models.engines.loader import load_engine
from training.data import sources
from training.data.preprocessing_spec import spec_of_files

MODEL = ROOT / "models" / "zoo" / "cifar10-resnet20" / "1"
BATCH = 100

Levels = NDArray[np.uint8]
Matrix = NDArray[np.float64]

# Linear light to CIE XYZ under D65: IEC 61966-2-1; SMPTE EG 432-1 with D65; Adobe RGB (1998), 4.3.5.3.
XYZ: dict[str, Matrix] = {
    "sRGB": np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]),
    "Display P3": np.array([[0.48657, 0.26567, 0.19822], [0.22897, 0.69174, 0.07929], [0.0, 0.04511, 1.04394]]),
    "Adobe RGB": np.array([[0.57667, 0.18556, 0.18823], [0.29734, 0.62736, 0.07529], [0.02703, 0.07069, 0.99134]]),
}
ADOBE_GAMMA = 563 / 256


def to_light(levels: Levels, space: str) -> Matrix:
    """Levels [..., 3] as linear light, 0 to 1."""
    values = levels / 255
    if space == "Adobe RGB":
        return np.asarray(values**ADOBE_GAMMA)
    return np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)


def to_levels(light: Matrix, space: str) -> Levels:
    """Linear light [..., 3] as levels, clipped to what the space can show."""
    light = light.clip(0, 1)
    if space == "Adobe RGB":
        values = light ** (1 / ADOBE_GAMMA)
    else:
        values = np.where(light <= 0.0031308, light * 12.92, 1.055 * light ** (1 / 2.4) - 0.055)
    return np.asarray((values * 255).round().astype(np.uint8))


def converted(levels: Levels, origin: str, target: str) -> Levels:
    """Levels [..., 3] of one space as those of another that look the same, relative to the white that both have."""
    matrix = np.linalg.inv(XYZ[target]) @ XYZ[origin]
    return to_levels(to_light(levels, origin) @ matrix.T, target)


def measured(
    space: str, images: Levels, labels: NDArray[np.int64], run: Callable[[Levels], NDArray[np.float32]]
) -> dict[str, Any]:
    """Accuracy of pictures in this space, as they stand and converted, and how often the class is another."""
    stored = converted(images, "sRGB", space)
    shown = converted(stored, space, "sRGB")
    classes = {name: run(pixels).argmax(1) for name, pixels in (("passed over", stored), ("converted", shown))}
    accuracy = {name: round(100 * float((found == labels).mean()), 2) for name, found in classes.items()}
    return {
        "accuracy_percent": accuracy,
        "other_class_percent": round(100 * float((classes["passed over"] != classes["converted"]).mean()), 2),
        "mean_level_difference": round(float(np.abs(stored.astype(int) - shown).mean()), 2),
    }


def main() -> None:
    """Measure, write and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.wide_gamut", description=__doc__)
    parser.add_argument("artifact", metavar="ARTIFACT-DIR", type=Path, nargs="?", default=MODEL)
    parser.add_argument("--data", required=True, help="CIFAR-10's test images")
    arguments = parser.parse_args()
    artifact = read_artifact(arguments.artifact)
    height, _, channels = artifact.input_shape
    files, _ = sources.load_test(arguments.data, Path())
    decoded = files if not hasattr(files, "decode") else files.decode(spec_of_files(channels, height))
    images = decoded.images.permute(0, 2, 3, 1).numpy()
    labels = torch.tensor([artifact.labels.index(name) for name in decoded.classes])[decoded.labels].numpy()
    engine = load_engine(artifact)

    def run(pixels: Levels) -> NDArray[np.float32]:
        return np.concatenate([engine.run(pixels[i : i + BATCH]) for i in range(0, len(pixels), BATCH)])

    document = training_surroundings("python -m benchmarks.wide_gamut", ("numpy", "onnxruntime", "pillow")) | {
        "model": artifact.name,
        "images": len(images),
        "spaces": {space: measured(space, images, labels, run) for space in XYZ if space != "sRGB"},
    }
    write_result("wide_gamut", document)
    print(json.dumps(document, indent=1))


if __name__ == "__main__":
    main()
