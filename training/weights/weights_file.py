"""A file of weights, read without running anything that may be in it."""

import hashlib
import io
import pickle
import re
import zipfile
from dataclasses import dataclass
from pathlib import Path

import safetensors.torch

from models.images.foreign_type import foreign_name
from training.errors import WeightsError
from training.loop.torch_archive import damaged_record
from training.weights.stand_ins import load_inert

_DIGEST_IN_NAME = re.compile(r"-([0-9a-f]{8,64})\.[a-z]+")
"""Beginning of a SHA-256 in a file's name, as `torch.hub` writes it."""

_USUAL_NAMES = ("model.safetensors", "pytorch_model.bin")
"""Files of weights in a folder of timm's or transformers'."""

_BLOCKED = re.compile(r"GLOBAL (\S+) whose module")
"""Name in torch's refusal of what it loads under no circumstances."""

_CALLED = re.compile(r"Trying to call reduce|Can only |must be imported to load")
"""torch's refusals of what is no class, such as a method of an object, or no tensor of one machine."""

_TORCHSCRIPT = re.compile(r"TorchScript archive")
"""torch's refusal of a network that was saved with its code."""

_WHOLE = re.compile(r"Only persistent_load of storage")
"""torch's refusal of a network as PyTorch before 1.6 saved it, its class and source text beside the tensors."""

_OPERAND = re.compile(r"Unsupported operand")
"""torch's refusal of pickles of a later protocol than its own."""


_SAFETENSORS_LENGTH = 8
"""Bytes that tell how long the JSON is with which a safetensors file begins."""

_ZIP, _PICKLE = b"PK\3\4", b"\x80"
"""The first bytes of what torch.save writes, now and before: an archive, or a pickle of protocol 2 or later."""

_KERAS = {b"\x89HDF": "HDF5, as Keras saves it: export the network to ONNX with tf2onnx, and import that file"}
_LITE = {b"TFL3": "TensorFlow Lite: export the network to ONNX with tf2onnx, and import that file"}
"""Files of other programs, by bytes at their start and behind four others."""


@dataclass(frozen=True, slots=True)
class WeightsFile:
    """What a file holds, and the SHA-256 of its bytes in hexadecimal.

    `stand_ins` are the names of the classes that were not loaded: their objects are inert.
    """

    path: Path
    content: object
    sha256: str
    stand_ins: tuple[str, ...]


def read_weights(path: Path) -> WeightsFile:
    """Read a PyTorch or safetensors file, once, or the one in a folder; WeightsError tells why it is refused.

    A name such as `resnet18-f37072fd.pth` has the beginning of the file's SHA-256, which is compared with the file.
    """
    path = _in_folder(path) if path.is_dir() else path
    try:
        data = path.read_bytes()
    except OSError as error:
        raise WeightsError(f"{path} cannot be read: {error.strerror}") from error
    sha256 = hashlib.sha256(data).hexdigest()
    promised = _DIGEST_IN_NAME.search(path.name)
    # Digits alone are a date or a step.
    if promised and not promised[1].isdecimal() and not sha256.startswith(promised[1]):
        raise WeightsError(
            f"{path} has SHA-256 {sha256}, its name says {promised[1]}: it is damaged or not what it is called; "
            "fetch it again, or rename it if these characters are no digest"
        )
    content, stand_ins = _load(path, data)
    return WeightsFile(path, content, sha256, stand_ins)


def _in_folder(folder: Path) -> Path:
    for name in _USUAL_NAMES:
        if (folder / name).is_file():
            return folder / name
    raise WeightsError(f"{folder} is a folder without {' or '.join(_USUAL_NAMES)}: give the file of weights")


def _load(path: Path, data: bytes) -> tuple[object, tuple[str, ...]]:
    try:
        if data[_SAFETENSORS_LENGTH : _SAFETENSORS_LENGTH + 1] == b"{":
            return safetensors.torch.load(data), ()
        content = load_inert(data)
    except pickle.UnpicklingError as error:
        raise WeightsError(_refused(path, data, error)) from error
    except Exception as error:  # damage makes torch raise KeyError, EOFError, RuntimeError and more
        raise WeightsError(_not_weights(path, data, error)) from error
    if record := damaged_record(data):
        raise WeightsError(f"{path} is damaged: {record} in it is not what was saved; fetch or save it anew")
    return content


def _refused(path: Path, data: bytes, error: pickle.UnpicklingError) -> str:
    if blocked := _BLOCKED.search(str(error)):
        return (
            f"{path} holds {blocked[1]}, and to load such a pickled object is to run code from the file: weights need "
            "none; do not load it elsewhere either, and fetch the weights from another place"
        )
    if _CALLED.search(str(error)):
        return (
            f"{path} holds objects beside the weights that cannot be read without running code; save the weights "
            "alone, by torch.save(network.state_dict(), ...) or as safetensors"
        )
    if _WHOLE.search(str(error)):
        return (
            f"{path} is a whole network as old PyTorch pickles it, which is not read; load it where it was made, and "
            "save the weights by torch.save(network.state_dict(), ...)"
        )
    if _OPERAND.search(str(error)) and data.startswith((_ZIP, _PICKLE)):
        return (
            f"{path} is pickled, but not as PyTorch does; save the weights by torch.save(network.state_dict(), ...) "
            "without pickle_protocol, or as safetensors"
        )
    return _not_weights(path, data, error)


def _not_weights(path: Path, data: bytes, error: Exception) -> str:
    if _TORCHSCRIPT.search(str(error)):
        return (
            f"{path} is a TorchScript archive, which holds code beside the weights; save the weights by "
            "torch.save(network.state_dict(), ...), or export the network with torch.onnx.export, and import that file"
        )
    if _is_other_archive(data):
        return (
            f"{path} is a ZIP archive without a state dict, such as torch.export's: save the weights by "
            "torch.save(network.state_dict(), ...), or export the network with torch.onnx.export, and import that file"
        )
    name = None if data.startswith(_ZIP) else _KERAS.get(data[:4]) or _LITE.get(data[4:8]) or foreign_name(data)
    what = f"is {name}" if name else "is empty" if not data else "is another kind of file, or damaged"
    return f"{path} {what}; needed is a PyTorch or safetensors file, or an .onnx file: fetch or save it anew"


def _is_other_archive(data: bytes) -> bool:
    """Whether this is a whole ZIP archive, but none that torch.save has written."""
    try:
        names = zipfile.ZipFile(io.BytesIO(data)).namelist()
    except (zipfile.BadZipFile, NotImplementedError, ValueError, OSError):
        return False
    return not any(name.endswith("data.pkl") for name in names)
