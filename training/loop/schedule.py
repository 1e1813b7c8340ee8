"""How the learning rate moves over a run."""

import math
from bisect import bisect_right
from typing import Annotated, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

from models.validation import STRICT

_START = 1 / 25
"""First rate as a fraction of the peak: Smith and Topin's one-cycle (arXiv 1708.07120), as in torch's OneCycleLR."""


@dataclass(frozen=True, slots=True, kw_only=True, config=STRICT)
class SmoothSchedule:
    """The learning rate as a fraction of its peak, a function of the run's progress and of nothing else.

    Attributes:
        kind: `one-cycle` rises and falls along half cosines; `linear` and `cosine` rise in a line and fall as named.
        warmup: fraction of the run over which the rate rises to its peak.

    """

    kind: Literal["one-cycle", "linear", "cosine"]
    warmup: Annotated[float, Field(ge=0, lt=1)]

    def factor(self, progress: float) -> float:
        """Return the fraction of the peak at `progress`, which runs from 0 to 1, where the rate is 0."""
        if progress < self.warmup:
            risen = progress / self.warmup
            return _START + (1 - _START) * (_cosine(risen) if self.kind == "one-cycle" else risen)
        left = (1 - progress) / (1 - self.warmup)
        return left if self.kind == "linear" else _cosine(left)


@dataclass(frozen=True, slots=True, kw_only=True, config=STRICT)
class StepSchedule:
    """The learning rate as a fraction of its peak: 1 at first, and multiplied by a factor at each milestone.

    Attributes:
        milestones: fractions of the run, in rising order.
        gamma: the factor.
        warmup: fraction of the run over which the rate is `gamma` of its peak already, before it begins.

    """

    kind: Literal["steps"]
    milestones: tuple[Annotated[float, Field(gt=0, lt=1)], ...]
    gamma: Annotated[float, Field(gt=0, lt=1)] = 0.1
    warmup: Annotated[float, Field(ge=0, lt=1)] = 0.0

    def __post_init__(self) -> None:
        if list(self.milestones) != sorted(self.milestones):
            raise ValueError(f"milestones are {list(self.milestones)}: they must be in rising order")

    def factor(self, progress: float) -> float:
        """Return the fraction of the peak at `progress`, which runs from 0 to 1."""
        if progress < self.warmup:
            return self.gamma
        return self.gamma ** bisect_right(self.milestones, progress)


def _cosine(part: float) -> float:
    """A smooth step from 0 to 1."""
    return (1 - math.cos(math.pi * part)) / 2
