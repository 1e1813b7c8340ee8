"""Counting a model's answers while it is measured: the reference that it is released with."""

import numpy as np
from numpy.typing import NDArray

from models.artifact.reference import CONFIDENCE_BOUNDS, ReferenceDistribution
from models.engines.engine import Infer
from models.postprocess import softmax


class ReferenceCounts:
    """Runs a model, and counts what it answers."""

    def __init__(self, infer: Infer, classes: int) -> None:
        self._infer = infer
        self._classes = np.zeros(classes, np.int64)
        self._confidences = np.zeros(len(CONFIDENCE_BOUNDS) + 1, np.int64)

    def __call__(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """The logits [n, classes] of pixels [n, h, w, c]."""
        logits = self._infer(pixels)
        with np.errstate(invalid="ignore"):  # infinite logits give NaN, which the caller refuses
            buckets = np.searchsorted(CONFIDENCE_BOUNDS, softmax(logits).max(axis=1))
        self._classes += np.bincount(logits.argmax(axis=1), minlength=len(self._classes))
        self._confidences += np.bincount(buckets, minlength=len(self._confidences))
        return logits

    def reference(self) -> ReferenceDistribution:
        """What has been counted."""
        return ReferenceDistribution(
            class_counts=tuple(self._classes.tolist()),
            confidence_bounds=CONFIDENCE_BOUNDS,
            confidence_counts=tuple(self._confidences.tolist()),
        )
