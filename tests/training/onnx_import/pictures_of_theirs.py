"""Pictures of somebody's, and what a script of theirs makes of them: Pillow, NumPy and torch alone."""

from io import BytesIO
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch.nn import functional as F

from tests.training.onnx_import.exported import SIDE

MEAN, STD = (0.5, 0.45, 0.4), (0.25, 0.2, 0.3)


def photos(folder: Path, n: int = 64) -> list[Path]:
    """Square PNGs three times as large as the networks' input, with edges that a wrong resize shows."""
    generator = np.random.default_rng(3)
    folder.mkdir()
    for index in range(n):
        coarse = Image.fromarray(generator.integers(0, 256, (5, 5, 3), np.uint8)).resize((3 * SIDE, 3 * SIDE))
        levels = (
            np.asarray(coarse).astype(int)
            + 90 * (np.indices((3 * SIDE, 3 * SIDE)).sum(0) // (index % 5 + 2) % 2)[..., None]
        )
        (folder / f"{index:02}.png").write_bytes(png(np.clip(levels, 0, 255).astype(np.uint8)))
    return sorted(folder.iterdir())


def png(levels: NDArray[np.uint8]) -> bytes:
    Image.fromarray(levels).save(stream := BytesIO(), "PNG", compress_level=1)
    return stream.getvalue()


def inputs(
    files: list[Path],
    *,
    bgr: bool = False,
    mean: tuple[float, ...] = MEAN,
    std: tuple[float, ...] = STD,
    antialias: bool = True,
    transposed: bool = True,
) -> NDArray[np.float32]:
    """Floats [n, 3, SIDE, SIDE], and the faults that scripts have."""
    return np.stack([_input(file, bgr, mean, std, antialias, transposed) for file in files])


def _input(
    file: Path, bgr: bool, mean: tuple[float, ...], std: tuple[float, ...], antialias: bool, transposed: bool
) -> NDArray[np.float32]:
    image = Image.open(file).convert("RGB")
    if antialias:
        levels = np.asarray(image.resize((SIDE, SIDE), Image.Resampling.BILINEAR)).astype(np.float32)
    else:
        planes = torch.from_numpy(np.asarray(image).copy()).permute(2, 0, 1)[None].float()
        levels = F.interpolate(planes, (SIDE, SIDE), mode="bilinear")[0].permute(1, 2, 0).numpy()
    values = ((levels[..., ::-1] if bgr else levels) / 255 - np.array(mean)) / np.array(std)
    arranged = values.transpose(2, 0, 1) if transposed else values.reshape(3, SIDE, SIDE)
    return arranged.astype(np.float32)
