"""From logits to an answer: probabilities, and the most probable classes."""

import numpy as np
from numpy.typing import NDArray

WHOLE_SORT = 64
"""Classes up to which a sort of the whole row is faster than picking out the largest first; measured, 1 to 32 rows."""


def softmax(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    """Probabilities of each row, float32 [n, classes]."""
    exp = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(exp / exp.sum(axis=1, keepdims=True), np.float32)


def most_probable(logits: NDArray[np.float32], k: int) -> NDArray[np.intp]:
    """The classes with the k largest logits of each row, in falling order, of equal ones the first first, [n, k]."""
    classes = logits.shape[1]
    if k == classes or classes <= WHOLE_SORT:
        return np.argsort(-logits, axis=1, kind="stable")[:, :k]
    top = np.sort(np.argpartition(-logits, k - 1, axis=1)[:, :k], axis=1)
    rows = np.arange(len(logits))[:, np.newaxis]
    top = top[rows, np.argsort(-logits[rows, top], axis=1, kind="stable")]
    tied = (logits >= logits[rows, top[:, -1:]]).sum(axis=1) > k  # with the last: which of them come first?
    if tied.any():
        top[tied] = np.argsort(-logits[tied], axis=1, kind="stable")[:, :k]
    return top
