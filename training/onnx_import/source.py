"""An ONNX file of somebody's: read whole, and run as it is."""

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
from google.protobuf.message import DecodeError
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, TensorProto
from onnx.inliner import inline_local_functions

from models.images.foreign_type import foreign_name
from training.errors import OnnxImportError
from training.onnx_import.session import make_session

_LARGEST = 2**31 - 1
"""Bytes of the largest file that protobuf writes."""

_WHERE = re.compile(r"\[ONNXRuntimeError\] : \d+ : \w+ : |\S+\.(?:cc|h):\d+ .*::.*\([^()]*\) ")
"""Code, file, line and function in ONNX Runtime's errors."""

_ORT_MAGIC = b"ORTM"
"""Bytes 4 to 7 of ONNX Runtime's own format."""

_LEAST_IR = 4
"""First version of ONNX's file format in which weights are no inputs."""

_TRAINING_INPUT = 2
"""Place of Dropout's input that tells whether it trains."""

_TYPES = {
    "tensor(float)": TensorProto.FLOAT,
    "tensor(float16)": TensorProto.FLOAT16,
    "tensor(double)": TensorProto.DOUBLE,
    "tensor(uint8)": TensorProto.UINT8,
}
"""Element types of pictures, by ONNX Runtime's names."""


@dataclass(frozen=True, slots=True)
class OnnxSource:
    """The file as one model without functions of its own, and a session that runs it as it is."""

    path: Path
    digests: dict[str, str]
    """SHA-256 of the file, and of each that it keeps tensors in."""
    model: ModelProto
    session: ort.InferenceSession

    @property
    def input(self) -> ort.NodeArg:
        """The only input; OnnxImportError if there are several, or it is of a type that no picture has."""
        entries = self.session.get_inputs()
        if len(entries) != 1:
            told = ", ".join(f"{each.name} {each.shape}" for each in entries) or "none"
            raise OnnxImportError(
                f"the graph of {self.path.name} has the inputs {told}, and the server gives it one, the picture: "
                "export it again with the others as constants"
            )
        if entries[0].type not in _TYPES:
            raise OnnxImportError(
                f"the graph's input {entries[0].name} is a {entries[0].type}, and a picture is one of "
                f"{', '.join(_TYPES)}: export it again"
            )
        return entries[0]

    @property
    def element(self) -> int:
        """ONNX's number of the input's element type."""
        return _TYPES[self.input.type]

    @property
    def dtype(self) -> np.dtype[Any]:
        """The input's element type."""
        return onnx.helper.tensor_dtype_to_np_dtype(self.element)

    @property
    def batch(self) -> int | None:
        """The size of every batch; None if it is free."""
        size = self.input.shape[0]
        return size if isinstance(size, int) else None

    def run(self, inputs: NDArray[Any], outputs: Sequence[str]) -> list[NDArray[np.float32]]:
        """Values of these outputs for each picture, [n, ...], alone or in batches of the size that the graph wants.

        OnnxImportError if ONNX Runtime fails.
        """
        size = self.batch or 1
        values = []
        for first in range(0, len(inputs), size):
            batch = inputs[first : first + size]
            padded = np.concatenate([batch, np.repeat(batch[-1:], size - len(batch), axis=0)]).astype(self.dtype)
            try:
                found = self.session.run(list(outputs), {self.input.name: padded})
            except Exception as error:  # ONNX Runtime's errors have no common base below Exception
                raise OnnxImportError(
                    f"ONNX Runtime fails to run {self.path.name} on a batch of {padded.shape}: {_first_line(error)}"
                ) from error
            values.append([value[: len(batch)] for value in found])
        return [np.concatenate(each).astype(np.float32) for each in zip(*values, strict=True)]


def read_source(path: Path) -> OnnxSource:
    """Read an ONNX file and those beside it in which it keeps tensors; OnnxImportError tells why it is refused."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise OnnxImportError(f"{path} cannot be read: {error.strerror}") from error
    if data[4:8] == _ORT_MAGIC:
        raise OnnxImportError(f"{path} is in ONNX Runtime's own format (.ort): import the .onnx file that it came from")
    model = _parse(path, data)
    external = sorted({_location(tensor) for tensor in _external(model)})
    _load_external(model, path, external)
    digests = {path.name: _sha256(data)} | {name: _sha256((path.parent / name).read_bytes()) for name in external}
    plain = _plain(model, path)
    _refuse_training(plain, path)
    return OnnxSource(path, digests, plain, _session(path))


def _parse(path: Path, data: bytes) -> ModelProto:
    try:
        model = onnx.load_model_from_string(data)
    except DecodeError as error:
        what = foreign_name(data) or "no ONNX file, or a damaged one"
        raise OnnxImportError(f"{path} is {what}: fetch or export it again") from error
    if not model.graph.node:
        raise OnnxImportError(f"{path} is no ONNX file, or holds an empty graph: fetch or export it again")
    return model


def _external(model: ModelProto) -> list[TensorProto]:
    tensors = onnx.external_data_helper._get_all_tensors(model)
    return [tensor for tensor in tensors if onnx.external_data_helper.uses_external_data(tensor)]


def _location(tensor: TensorProto) -> str:
    return next((entry.value for entry in tensor.external_data if entry.key == "location"), "")


def _load_external(model: ModelProto, path: Path, names: Sequence[str]) -> None:
    if missing := [name for name in names if not (path.parent / name).is_file()]:
        raise OnnxImportError(
            f"{path.name} keeps its weights in {', '.join(missing)}, which is not beside it: copy that file to "
            f"{path.parent}, too"
        )
    try:
        onnx.external_data_helper.load_external_data_for_model(model, str(path.parent))
    except Exception as error:  # of a file that is cut off, or a place outside the folder
        raise OnnxImportError(
            f"the weights of {path.name} in {', '.join(names)} cannot be read: {_first_line(error)}"
        ) from error


def _plain(model: ModelProto, path: Path) -> ModelProto:
    """The model in one piece: no functions, no tensors elsewhere, no weights among the inputs."""
    if model.functions:
        model = inline_local_functions(model)
    weights = {tensor.name for tensor in model.graph.initializer}
    inputs = [value for value in model.graph.input if value.name not in weights]
    del model.graph.input[:]
    model.graph.input.extend(inputs)
    model.ir_version = max(model.ir_version, _LEAST_IR)
    if (size := model.ByteSize()) > _LARGEST:
        raise OnnxImportError(
            f"{path.name} and its weights have {size:,} bytes, and one ONNX file {_LARGEST:,} at most"
        )
    return model


def _refuse_training(model: ModelProto, path: Path) -> None:
    """OnnxImportError if the graph answers as while training: by chance, or by the other pictures of its batch."""
    if node := next((node for node in model.graph.node if _trains(node, model)), None):
        raise OnnxImportError(
            f"{path.name} was exported as it trains, with a {node.op_type} in training mode: its answers are not those "
            "of the trained network; export network.eval()"
        )


def _trains(node: NodeProto, model: ModelProto) -> bool:
    if node.op_type == "BatchNormalization":  # before operator set 14 its other outputs tell it
        return sum(map(bool, node.output)) > 1 or any(
            each.name == "training_mode" and each.i for each in node.attribute
        )
    if node.op_type == "Dropout" and len(node.input) > _TRAINING_INPUT:
        return _is_true(node.input[_TRAINING_INPUT], model)
    return False


def _is_true(name: str, model: ModelProto) -> bool:
    """Whether this is a constant that holds; what is computed is not known."""
    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    nodes = [node for node in model.graph.node if node.op_type == "Constant"]
    constants |= {node.output[0]: each.t for node in nodes for each in node.attribute if each.name == "value"}
    return name in constants and bool(onnx.numpy_helper.to_array(constants[name]).any())


def _session(path: Path) -> ort.InferenceSession:
    try:
        return make_session(str(path))
    except Exception as error:  # ONNX Runtime's errors have no common base below Exception
        raise OnnxImportError(
            f"ONNX Runtime {ort.__version__}, which the server runs models with, cannot load {path.name}: "
            f"{_first_line(error)}; export it again in fp32, of standard operators and for an older opset"
        ) from error


def _first_line(error: Exception) -> str:
    """What is wrong, without where in ONNX Runtime's own code that was found."""
    return _WHERE.sub("", str(error).partition("\n")[0])


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
