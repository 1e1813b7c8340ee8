"""A file of weights, read without running anything that may be in it."""

import hashlib
import io
import pickle
import re
from dataclasses import dataclass
from pathlib import Path

import safetensors.torch
import torch

from training.errors import WeightsError

_DIGEST_IN_NAME = re.compile(r"-([0-9a-f]{8,64})\.[a-z]+")
"""Beginning of a SHA-256 in a file's name, as `torch.hub` writes it."""

_FORBIDDEN = re.compile(r"GLOBAL (\S+)")
"""Name of the pickled object in torch's refusal."""


@dataclass(frozen=True, slots=True)
class WeightsFile:
    """What a file holds, and the SHA-256 of its bytes in hexadecimal."""

    content: object
    sha256: str


def read_weights(path: Path) -> WeightsFile:
    """Read a PyTorch or safetensors file, once; WeightsError tells why it is refused.

    A name such as `resnet18-f37072fd.pth` has the beginning of the file's SHA-256, which is compared with the file.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise WeightsError(f"{path} cannot be read: {error.strerror}") from error
    sha256 = hashlib.sha256(data).hexdigest()
    promised = _DIGEST_IN_NAME.search(path.name)
    if promised and not sha256.startswith(promised[1]):
        raise WeightsError(
            f"{path} has SHA-256 {sha256}, its name says {promised[1]}: it is damaged or not what it is called; "
            "fetch it again, or rename it if these characters are no digest"
        )
    return WeightsFile(_load(path, data), sha256)


def _load(path: Path, data: bytes) -> object:
    try:
        if path.suffix == ".safetensors":
            return safetensors.torch.load(data)
        return torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        if forbidden := _FORBIDDEN.search(str(error)):
            raise WeightsError(
                f"{path} holds {forbidden[1]}, and to load such a pickled object is to run code from the file; save "
                "the weights alone, by torch.save(network.state_dict(), ...) or as safetensors"
            ) from error
        raise WeightsError(_not_weights(path, error)) from error
    except Exception as error:  # damage makes torch raise KeyError, EOFError, RuntimeError and more
        raise WeightsError(_not_weights(path, error)) from error


def _not_weights(path: Path, error: Exception) -> str:
    reason = str(error).partition(". ")[0].partition("\n")[0]
    return f"{path} is not a PyTorch or safetensors file, or a damaged one ({type(error).__name__}: {reason})"
