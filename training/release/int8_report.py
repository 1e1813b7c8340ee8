"""A model in fp32 and the same in 8 bits, side by side."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.artifact.artifact import Artifact
from models.engines.loader import load_engine
from models.engines.speed import images_per_second
from models.machine.cores import cpu_name

MOST_LOST = 0.005
"""Largest loss of accuracy, as a fraction, that 8 bits may cost."""

MOST_CHANGED = 0.02
"""Largest share of images whose class may change, where accuracy is not known: most that change were wrong before, or
as likely are right after it."""

FASTER = 1.05
"""Least ratio of speeds that counts as faster: a smaller one cannot be told from a busy machine's noise."""

BATCHES = (1, 8)
"""Images in the batches whose speed is measured, on one thread."""

_FEW = 200
"""Images below which one of them is worth as much as 8 bits may cost."""

_ROUNDS = 15
"""Times that each speed is measured; the median is kept."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """Agreement and, where known, accuracies in fp32 and int8 on the same images; images/s at each of BATCHES."""

    images: int
    agreement: float
    accuracies: tuple[float, float] | None
    fp32_speeds: tuple[float, ...]
    int8_speeds: tuple[float, ...]

    def shortcomings(self) -> list[str]:
        """Return the reasons not to release the 8-bit model; none if it pays."""
        reasons = []
        # 92 % less 91.5 % is a little over 0.5 % in binary.
        if self.accuracies is not None and round(self.accuracies[0] - self.accuracies[1], 9) > MOST_LOST:
            reasons.append(f"it loses more than {100 * MOST_LOST:g} points of accuracy")
        if self.accuracies is None and round(1 - self.agreement, 9) > MOST_CHANGED:
            reasons.append(
                f"it names more than {100 * MOST_CHANGED:g} % of the images otherwise than the model in fp32"
            )
        pairs = zip(BATCHES, self.fp32_speeds, self.int8_speeds, strict=True)
        if slower := [str(size) for size, fp32, int8 in pairs if int8 < FASTER * fp32]:
            reasons.append(f"it is not {FASTER - 1:.0%} faster in batches of {' and '.join(slower)}")
        return reasons

    def metrics(self) -> dict[str, str | int | float]:
        """Return the figures that the 8-bit model's own evaluation does not have."""
        metrics: dict[str, str | int | float] = {"agreement_with_fp32": self.agreement, "cpu": cpu_name(), "threads": 1}
        if self.accuracies is not None:
            metrics["fp32_accuracy"] = self.accuracies[0]
        for size, fp32, int8 in zip(BATCHES, self.fp32_speeds, self.int8_speeds, strict=True):
            metrics |= {f"images_per_second_batch_{size}": int8, f"fp32_images_per_second_batch_{size}": fp32}
        return metrics

    def report(self) -> str:
        """Return a line for each figure."""
        few = f", which are few: one is {1 / self.images:.1%}" if self.images < _FEW else ""
        lines = [f"it names {self.agreement:.2%} of {self.images:,} images as the model in fp32 does{few}"]
        if self.accuracies is not None:
            lines.append("accuracy {:.2%} in fp32, {:.2%} in int8".format(*self.accuracies))
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
