"""Proof that a graph is the network that it was exported from."""

import numpy as np
import torch
from numpy.typing import NDArray

from models.engines.engine import Engine
from models.networks.pixel_net import PixelNet
from training.errors import ExportError

PARITY_BATCHES = (1, 2, 5, 32)
"""Sizes of the batches in which images are compared: one alone, and some that fill no power of two."""

PARITY_BOUND = 1e-4
"""Largest |difference| between PyTorch's logits and the graph's, as a fraction of the largest |logit|."""


def check_parity(network: PixelNet, engine: Engine, pixels: NDArray[np.uint8]) -> float:
    """Return the largest |difference| of a logit between PyTorch and the engine, in batches of several sizes.

    ExportError if the class of an image [h, w, c] differs, the difference is beyond the bound, or a logit of PyTorch's
    is no finite number.
    """
    expected, largest = _of_network(network, pixels), 0.0
    if not np.isfinite(expected).all():
        raise ExportError(
            "the network's logits are no finite numbers: its weights are damaged, or of a training that diverged; give "
            "others, or an earlier checkpoint"
        )
    for size in PARITY_BATCHES:
        batches = [engine.run(pixels[first : first + size]) for first in range(0, len(pixels), size)]
        logits = np.concatenate(batches)
        largest = max(largest, float(np.abs(logits - expected).max()))
        if differing := int((logits.argmax(1) != expected.argmax(1)).sum()):
            raise ExportError(
                f"the graph names {differing} of {len(pixels)} images otherwise than PyTorch does: it must name all "
                "alike, and is not written; see that torch and onnxruntime have the versions of pyproject.toml"
            )
    bound = PARITY_BOUND * float(np.abs(expected).max())
    if not largest <= bound:  # also when it is not a number
        raise ExportError(f"the graph's logits differ from PyTorch's by {largest:.3g}, at most {bound:.3g} is allowed")
    return largest


def _of_network(network: PixelNet, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    """PyTorch's logits; all images at once might not fit into memory."""
    with torch.inference_mode():
        batches = torch.split(torch.from_numpy(pixels), max(PARITY_BATCHES))
        logits: NDArray[np.float32] = torch.cat([network(batch) for batch in batches]).numpy()
    return logits
