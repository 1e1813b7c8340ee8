"""A file of what an origin answered: arrays named `logits`, and `inputs`."""

import io
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from torch import Tensor, from_numpy

from training.errors import WeightsError
from training.weights.weights_file import read_weights

_NEEDED = (
    "needed is a .npz, .safetensors or .pt file with the arrays inputs and logits, as numpy.savez(path, inputs=..., "
    "logits=...) writes it"
)


def read_arrays(path: Path) -> dict[str, Tensor]:
    """Read all arrays of a .npz, .safetensors or PyTorch file by name; WeightsError if `logits` is not among them."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise WeightsError(f"the reference {path} cannot be read: {error.strerror}; {_NEEDED}") from error
    content = _numpy_arrays(path, data) if path.suffix == ".npz" else _weights(path)
    if "logits" not in content:
        told = ", ".join(sorted(content)) or "no arrays"
        raise WeightsError(f"the reference {path} holds {told[:200]}; {_NEEDED}")
    return content


def _numpy_arrays(path: Path, data: bytes) -> dict[str, Tensor]:
    try:
        with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
            return {name: from_numpy(arrays[name]) for name in arrays.files}
    except Exception as error:  # damage makes zipfile, zlib and NumPy raise errors of a dozen types
        raise WeightsError(
            f"the reference {path} is no .npz file of arrays of numbers, or a damaged one; {_NEEDED}"
        ) from error


def _weights(path: Path) -> dict[str, Tensor]:
    try:
        content = read_weights(path).content
    except WeightsError as error:
        raise WeightsError(f"the reference {path} is no file of arrays, or a damaged one; {_NEEDED}") from error
    tensors = content if isinstance(content, Mapping) else {}
    return {str(name): tensor for name, tensor in tensors.items() if isinstance(tensor, Tensor)}
