from collections.abc import Callable
from contextlib import suppress

import onnx
import pytest
from google.protobuf.message import DecodeError
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper

from models.artifact.metadata import ArtifactError, Metadata
from models.artifact.onnx_file import Tensor, read_onnx

LinearModel = Callable[[Metadata], onnx.ModelProto]


def test_reads_what_the_onnx_package_reads(metadata: Metadata, linear_model: LinearModel):
    model = linear_model(metadata)
    model.metadata_props.add(key="other", value="größer")
    read = read_onnx(model.SerializeToString())
    assert read.metadata == {entry.key: entry.value for entry in model.metadata_props}
    assert read.inputs == (Tensor("image", "uint8", ("batch", 6, 6, 1)),)
    assert read.outputs == (Tensor("logits", "float32", ("batch", 3)),)
    assert not read.external_data


@pytest.mark.parametrize("dimension", [None, 0, 1, 2**40])
def test_reads_every_kind_of_dimension(dimension: int | None):
    value = helper.make_tensor_value_info("x", TensorProto.DOUBLE, [dimension, 2])
    graph = helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], "g", [value], [])
    read = read_onnx(helper.make_model(graph).SerializeToString())
    assert read.inputs == (Tensor("x", "float64", ("?" if dimension is None else dimension, 2)),)


def external_tensor() -> TensorProto:
    tensor = helper.make_tensor("w", TensorProto.FLOAT, [1], b"\0" * 4, raw=True)
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="/etc/passwd")
    return tensor


def graph_with_initializer() -> onnx.GraphProto:
    return helper.make_graph([], "g", [], [], [external_tensor()])


def graph_with_constant() -> onnx.GraphProto:
    return helper.make_graph([helper.make_node("Constant", [], ["w"], value=external_tensor())], "g", [], [])


def graph_with_branch() -> onnx.GraphProto:
    branches = {"then_branch": graph_with_constant(), "else_branch": helper.make_graph([], "empty", [], [])}
    return helper.make_graph([helper.make_node("If", ["condition"], ["w"], **branches)], "g", [], [])


def graph_with_sparse_initializer() -> onnx.GraphProto:
    sparse = onnx.SparseTensorProto(values=external_tensor(), dims=[4])
    return helper.make_graph([], "g", [], [], sparse_initializer=[sparse])


@pytest.mark.parametrize(
    "graph", [graph_with_initializer, graph_with_constant, graph_with_branch, graph_with_sparse_initializer]
)
def test_finds_external_data_wherever_a_tensor_can_be(graph: Callable[[], onnx.GraphProto]):
    assert read_onnx(helper.make_model(graph()).SerializeToString()).external_data


def test_finds_external_data_in_a_function():
    node = helper.make_node("Constant", [], ["w"], value=external_tensor())
    function = helper.make_function("local", "f", [], ["w"], [node], [])
    model = helper.make_model(helper.make_graph([], "g", [], []), functions=[function])
    assert read_onnx(model.SerializeToString()).external_data


def test_an_input_without_a_type_is_an_artifact_error():
    graph = onnx.GraphProto(input=[onnx.ValueInfoProto(name="image")])
    with pytest.raises(ArtifactError, match="not an ONNX model"):
        read_onnx(helper.make_model(graph).SerializeToString())


@given(st.binary(max_size=200))
def test_arbitrary_bytes_raise_nothing_else_than_an_artifact_error(data: bytes):
    with suppress(ArtifactError):
        read_onnx(data)


@pytest.mark.parametrize(
    "field",
    [b"\xc0\x3e\x07", b"\xc1\x3e" + b"\xff" * 8, b"\xc2\x3e\x03abc", b"\xc5\x3e" + b"\xff" * 4],
    ids=["number", "eight bytes", "text", "four bytes"],
)
def test_fields_of_a_later_onnx_are_passed_over(metadata: Metadata, linear_model: LinearModel, field: bytes):
    data = linear_model(metadata).SerializeToString()
    assert onnx.load_from_string(field + data).graph == onnx.load_from_string(data).graph
    assert read_onnx(field + data) == read_onnx(data)


def by_protobuf(data: bytes) -> onnx.ModelProto | None:
    """The message, or None if it is broken off or holds no graph."""
    try:
        model = onnx.ModelProto.FromString(data)
    except DecodeError:
        return None
    return model if model.HasField("graph") else None


def test_a_truncated_model_is_read_only_as_far_as_protobuf_reads_it(metadata: Metadata, linear_model: LinearModel):
    model = linear_model(metadata)
    model.metadata_props[0].value = "short, so that every length can be tried"
    data = model.SerializeToString()
    readable = 0
    for length in range(len(data)):
        if whole := by_protobuf(data[:length]):
            readable += 1
            read = read_onnx(data[:length])
            assert read.metadata == {entry.key: entry.value for entry in whole.metadata_props}
            assert [tensor.name for tensor in (*read.inputs, *read.outputs)] == ["image", "logits"]
        else:
            with pytest.raises(ArtifactError, match="not an ONNX model"):
                read_onnx(data[:length])
    assert 0 < readable < 4  # at the ends of the fields behind the graph alone
