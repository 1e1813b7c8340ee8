"""The reference of a release: counted by hand, and by PyTorch."""

from itertools import pairwise

import numpy as np
import torch

from models.artifact.reference import CONFIDENCE_BOUNDS
from training.release.reference_counts import ReferenceCounts


def test_it_counts_what_pytorch_would() -> None:
    logits = np.random.default_rng(0).normal(0, 3, (400, 7)).astype(np.float32)
    counts = ReferenceCounts(lambda pixels: logits[pixels[:, 0, 0, 0]], 7)
    for part in np.array_split(np.arange(400), 3):
        places = part.reshape(-1, 1, 1, 1)
        np.testing.assert_array_equal(counts(places), logits[part])
    reference = counts.reference()
    found = torch.from_numpy(logits).softmax(1).max(1)
    assert reference.images == 400
    assert list(reference.class_counts) == torch.bincount(found.indices, minlength=7).tolist()
    bounds = [0.0, *CONFIDENCE_BOUNDS, 2.0]
    assert list(reference.confidence_counts) == [
        int(((found.values > low) & (found.values <= high)).sum()) for low, high in pairwise(bounds)
    ]
