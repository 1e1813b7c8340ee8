"""What must be known of an ONNX file before an engine exists, read without the `onnx` package.

A server checks a model before it gives the bytes to an engine. An ONNX Runtime session would tell the
metadata too, but only after it has parsed the graph, followed references to external files and resolved
every type. This walks the protobuf fields that matter.
"""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass

from models.artifact.metadata import ArtifactError

# Field numbers of onnx.proto: the messages below which a tensor can hide, and the field that leads to each.
_TENSOR_PATHS: dict[str, dict[int, str]] = {
    "model": {7: "graph", 25: "function"},
    "graph": {1: "node", 5: "tensor", 15: "sparse_tensor"},
    "function": {7: "node"},
    "node": {5: "attribute"},
    "attribute": {
        5: "tensor",
        6: "graph",
        10: "tensor",
        11: "graph",
        22: "sparse_tensor",
        23: "sparse_tensor",
    },
    "sparse_tensor": {1: "tensor", 2: "tensor"},
}
_TENSOR_EXTERNAL_DATA, _TENSOR_DATA_LOCATION = 13, 14
_MODEL_GRAPH, _MODEL_METADATA, _GRAPH_INPUT, _GRAPH_OUTPUT = 7, 14, 11, 12
_ELEMENT_TYPES = {1: "float32", 2: "uint8", 3: "int8", 6: "int32", 7: "int64", 10: "float16", 11: "float64"}

Field = tuple[int, int | memoryview]


@dataclass(frozen=True, slots=True)
class Tensor:
    """An input or output of the graph; a named dimension is dynamic."""

    name: str
    dtype: str
    shape: tuple[int | str, ...]


@dataclass(frozen=True, slots=True)
class OnnxFile:
    """The outside of an ONNX model."""

    metadata: dict[str, str]
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    external_data: bool


def read_onnx(model: bytes) -> OnnxFile:
    """Read the model's interface; ArtifactError when the bytes are not an ONNX model."""
    try:
        fields = list(_fields(memoryview(model)))
        graphs = [_message(value) for number, value in fields if number == _MODEL_GRAPH]
        if len(graphs) != 1:
            raise ValueError(f"{len(graphs)} graphs")
        graph = list(_fields(graphs[0]))
        return OnnxFile(
            metadata=dict(_entry(_message(value)) for number, value in fields if number == _MODEL_METADATA),
            inputs=tuple(_tensor(_message(value)) for number, value in graph if number == _GRAPH_INPUT),
            outputs=tuple(_tensor(_message(value)) for number, value in graph if number == _GRAPH_OUTPUT),
            external_data=_has_external_data("model", memoryview(model)),
        )
    except (ValueError, LookupError, RecursionError) as error:
        raise ArtifactError(f"not an ONNX model: {error}; export it again") from error


def graph_sha256(model: bytes) -> str:
    """The digest of the graph alone: metadata may be written anew without touching it."""
    graph = hashlib.sha256()
    for number, value in _fields(memoryview(model)):
        if number == _MODEL_GRAPH:
            graph.update(_message(value))
    return graph.hexdigest()


def _fields(message: memoryview) -> Iterator[Field]:
    """Each field's number and value: an int, or the bytes of a string, message or fixed-size number."""
    position = 0
    while position < len(message):
        key, position = _varint(message, position)
        wire_type = key & 7
        if wire_type == 0:
            number, position = _varint(message, position)
            yield key >> 3, number
            continue
        if wire_type == 2:
            size, position = _varint(message, position)
        elif wire_type in (1, 5):
            size = 8 if wire_type == 1 else 4
        else:
            raise ValueError(f"protobuf wire type {wire_type}")
        end = position + size
        if end > len(message):
            raise ValueError("a field ends beyond the file")
        yield key >> 3, message[position:end]
        position = end


def _varint(message: memoryview, position: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        byte = message[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
    raise ValueError("a protobuf number has more than ten bytes")


def _message(value: int | memoryview) -> memoryview:
    if isinstance(value, int):
        raise ValueError("a number where a message belongs")
    return value


def _text(value: int | memoryview) -> str:
    return str(_message(value), "utf-8")


def _entry(message: memoryview) -> tuple[str, str]:
    pair = dict(_fields(message))
    return _text(pair.get(1, memoryview(b""))), _text(pair.get(2, memoryview(b"")))


def _tensor(message: memoryview) -> Tensor:
    """ValueInfoProto: name = 1, type = 2 {tensor_type = 1 {elem_type = 1, shape = 2 {dim = 1, ...}}}."""
    value_info = dict(_fields(message))
    tensor_type = dict(_fields(_message(dict(_fields(_message(value_info[2])))[1])))
    element = tensor_type.get(1)
    dimensions = _fields(_message(tensor_type.get(2, memoryview(b""))))
    return Tensor(
        name=_text(value_info[1]),
        dtype=_ELEMENT_TYPES.get(element, f"type {element}") if isinstance(element, int) else "none",
        shape=tuple(_dimension(_message(value)) for number, value in dimensions if number == 1),
    )


def _dimension(message: memoryview) -> int | str:
    """A fixed size (dim_value = 1) or the name of a dynamic one (dim_param = 2), `?` for an unnamed one."""
    fields = dict(_fields(message))
    size = fields.get(1)
    return size if isinstance(size, int) else _text(fields.get(2, memoryview(b"?")))


def _has_external_data(kind: str, message: memoryview) -> bool:
    if kind == "tensor":
        return any(
            number == _TENSOR_EXTERNAL_DATA or (number == _TENSOR_DATA_LOCATION and value != 0)
            for number, value in _fields(message)
        )
    paths = _TENSOR_PATHS[kind]
    return any(
        _has_external_data(paths[number], _message(value)) for number, value in _fields(message) if number in paths
    )
