"""A model in fp32 and the same in 8 bits, side by side."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.artifact.artifact import Artifact
from models.engines.loader import load_engine
from training.release.benchmark import cpu_name, images_per_second

MOST_LOST = 0.005
"""Largest loss of accuracy, as a fraction, that 8 bits may cost."""

FASTER = 1.05
"""Least ratio of speeds that counts as faster: a smaller one cannot be told from a busy machine's noise."""

BATCHES = (1, 8)
"""Images in the batches whose speed is measured, on one thread."""

_ROUNDS = 15
"""Times that each speed is measured; the median is kept."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """Accuracy on the same images, and images per second at each of BATCHES."""

    fp32_accuracy: float
    int8_accuracy: float
    fp32_speeds: tuple[float, ...]
    int8_speeds: tuple[float, ...]

    def shortcomings(self) -> list[str]:
        """Return the reasons not to release the 8-bit model; none if it pays."""
        reasons = []
        lost = round(self.fp32_accuracy - self.int8_accuracy, 9)  # 92 % less 91.5 % is a little over 0.5 % in binary
        if lost > MOST_LOST:
            reasons.append(f"it loses more than {100 * MOST_LOST:g} points of accuracy")
        pairs = zip(BATCHES, self.fp32_speeds, self.int8_speeds, strict=True)
        if slower := [str(size) for size, fp32, int8 in pairs if int8 < FASTER * fp32]:
            reasons.append(f"it is not {FASTER - 1:.0%} faster in batches of {' and '.join(slower)}")
        return reasons

    def metrics(self) -> dict[str, str | int | float]:
        """Return the figures that the 8-bit model's own evaluation does not have."""
        metrics: dict[str, str | int | float] = {"fp32_accuracy": self.fp32_accuracy, "cpu": cpu_name(), "threads": 1}
        for size, fp32, int8 in zip(BATCHES, self.fp32_speeds, self.int8_speeds, strict=True):
            metrics |= {f"images_per_second_batch_{size}": int8, f"fp32_images_per_second_batch_{size}": fp32}
        return metrics

    def report(self) -> str:
        """Return a line for each figure."""
        lines = [f"accuracy {self.fp32_accuracy:.2%} in fp32, {self.int8_accuracy:.2%} in int8"]
        for size, fp32, int8 in zip(BATCHES, self.fp32_speeds, self.int8_speeds, strict=True):
            lines.append(f"batches of {size}: {fp32:,.1f} images/s in fp32, {int8:,.1f} in int8 ({int8 / fp32:.2f} x)")
        return "\n".join(f"  {line}" for line in lines)


def compare_speeds(
    fp32: Artifact, int8: Artifact, pixels: NDArray[np.uint8], rounds: int = _ROUNDS
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return the images per second of both at each of BATCHES, on one thread, of `pixels` [n, h, w, c]."""
    engines = load_engine(fp32), load_engine(int8)
    speeds = [images_per_second(engines, pixels[:size], rounds) for size in BATCHES]
    return tuple(each[0] for each in speeds), tuple(each[1] for each in speeds)
