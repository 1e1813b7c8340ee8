"""Answers of a served model and of its origin to the same pictures, brought to one form and compared."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.postprocess import softmax
from training.onnx_import.classifier_graph import Ending

Scores = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Agreement:
    """Of `pictures`, `same` got the same class, and `ties` another one where the origin's first two hardly differ.

    `difference` is the largest of a score, `allowed` what may be; `distinct` counts classes of the origin's answers.
    """

    pictures: int
    same: int
    ties: int
    distinct: int
    difference: float
    allowed: float

    def __str__(self) -> str:
        ties = f" ({self.ties} others are ties)" if self.ties else ""
        return (
            f"{self.same} of {self.pictures} pictures get the same class{ties}, of {self.distinct} in all; scores "
            f"differ by {self.difference:.2g} at most"
        )

    @property
    def holds(self) -> bool:
        """Whether no class differs that is no tie, and no score by more than is allowed."""
        return self.same + self.ties == self.pictures and self.difference <= self.allowed  # false for what is no number


def compare(found: Scores, expected: Scores, tolerance: float) -> Agreement:
    """Compare scores [n, classes] in the same form; `tolerance` is a fraction of the largest."""
    largest = np.nan_to_num(np.abs(found - expected), nan=np.inf).max(axis=1)
    allowed = tolerance * float(np.abs(expected).max())
    first, same = expected.argmax(1), found.argmax(1) == expected.argmax(1)
    second = np.sort(expected, axis=1)[:, -2]
    lead = expected[np.arange(len(expected)), first] - second
    ties = ~same & (lead <= 2 * allowed)
    return Agreement(
        len(expected), int(same.sum()), int(ties.sum()), len(set(first.tolist())), float(largest.max()), allowed
    )


def of_two(scores: Scores) -> Scores:
    """Scores of two classes, where an origin has one number for both: it is the second's against the first."""
    return np.concatenate([np.zeros_like(scores), scores], axis=1) if scores.shape[1] == 1 else scores


def as_origin(logits: Scores, ending: Ending) -> Scores:
    """What an origin that gives no probabilities would have made of a served model's logits [n, classes]."""
    if ending == "log-softmax":
        shifted = logits - logits.max(axis=1, keepdims=True)
        return np.asarray(shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True)), np.float32)
    if ending == "sigmoid":
        return of_two(softmax(logits)[:, 1:])
    return logits
