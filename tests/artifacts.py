"""Released models whose answers can be computed by hand, and whose graphs misbehave when a picture asks for it.

The network is one matrix: logits = pixels / 255 @ weight. The value of a picture's first pixel (top left, first
channel) can make the graph slow, failing, or give something that is not a number.
"""

import hashlib
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import GraphProto, NodeProto, TensorProto, helper, numpy_helper

from models.artifact.artifact import Artifact, read_artifact, write_artifact
from models.artifact.metadata import FORMAT_VERSION, METADATA_KEY, Metadata
from models.engines import golden
from models.engines.loader import load_engine
from models.images.preprocessing import Preprocessing

SHAPE = (8, 8, 1)
LABELS = ("ant", "bee", "cat", "dog", "elk", "fox", "gnu", "hen", "ibis", "jay")

_OUT_OF_BOUNDS = 256
SLOW_START_LOOPS = 3000  # in each batch that proves or warms a model

_LOOP_MATRIX = 256  # an iteration multiplies matrices of this side: about a millisecond on one core


def weight(shape: tuple[int, int, int] = SHAPE, classes: int = len(LABELS)) -> NDArray[np.float32]:
    """The network, float32 [pixels, classes]."""
    return np.random.default_rng(classes).normal(size=(int(np.prod(shape)), classes)).astype(np.float32)


def expected_probabilities(pixels: NDArray[np.uint8], classes: int = len(LABELS)) -> NDArray[np.float64]:
    """What a model must answer for one image, uint8 [h, w, c]."""
    height, width, channels = pixels.shape
    logits = pixels.reshape(-1) / 255 @ weight((height, width, channels), classes).astype(np.float64)
    exp = np.exp(logits - logits.max())
    return np.asarray(exp / exp.sum())


def make_artifact(
    repository: Path,
    name: str,
    version: int = 1,
    *,
    shape: tuple[int, int, int] = SHAPE,
    labels: tuple[str, ...] = LABELS,
    loops: Mapping[int, int] | None = None,
    fails: Collection[int] = (),
    nans: Collection[int] = (),
    hoards: Mapping[int, int] | None = None,
    golden_error: float = 0.0,
    int8: "In8Bits | None" = None,
    ballast_bytes: int = 0,
) -> Path:
    """Write a model that loads, and answers `expected_probabilities` unless the first pixel's value is listed.

    `loops`: iterations of about a millisecond that a batch with such a picture takes; `fails`: values for which the
    graph fails; `nans`: values whose logits are not numbers; `hoards`: bytes of memory that such a picture takes. A
    `golden_error` makes the model fail its own examples. With `int8` there is another graph beside it. The network is
    larger by `ballast_bytes` that do nothing.
    """
    metadata = _metadata(shape, labels)
    graph = _model(shape, labels, loops or {}, fails, nans, hoards or {}, ballast_bytes)
    model = _proved(graph, metadata, golden_error)
    beside = None
    if int8:
        figures = {} if int8.lost is None else {"fp32_accuracy": 0.9, "accuracy": 0.9 - int8.lost / 100}
        metadata = replace(metadata, precision="int8", metrics=figures)
        graph = _model(shape, labels, dict.fromkeys(range(256), int8.loops), (), (), {})
        beside = _proved(graph, metadata, int8.golden_error)
    return write_artifact(repository, name, version, model, None, beside)


def mixed(model: onnx.ModelProto) -> bytes:
    """The model with logits that are twice as far from their mean over the batch."""
    graph = model.graph
    (last,) = (node for node in graph.node if "logits" in node.output)
    last.output[:] = ["own"]
    graph.node.extend(
        [
            helper.make_node("ReduceMean", ["own", "images"], ["mean"], keepdims=1),
            helper.make_node("Sub", ["own", "mean"], ["from_mean"]),
            helper.make_node("Add", ["own", "from_mean"], ["logits"]),
        ]
    )
    graph.initializer.append(numpy_helper.from_array(np.array([0]), "images"))
    return model.SerializeToString()


def value_at_start(folder: Path) -> int:
    """The first pixel's value of a golden example: a start runs it, in proof and in warm-up. Makes a model there."""
    artifact = read_artifact(make_artifact(folder, "usual"))
    return int(golden.verify(artifact, load_engine(artifact)).pixels.flat[0])


def make_slow_starter(repository: Path, name: str, version: int = 1, labels: tuple[str, ...] = LABELS) -> Path:
    """Write a model whose start takes seconds, so that something can be done before it is up."""
    with TemporaryDirectory() as folder:
        loops = {value_at_start(Path(folder)): SLOW_START_LOOPS}
    return make_artifact(repository, name, version, labels=labels, loops=loops)


@dataclass(frozen=True)
class In8Bits:
    """What is called the same model in 8 bits, and computes in fp32.

    Every batch takes `loops` iterations of about a millisecond; `lost` are the points of accuracy that it records, None
    if it does not.
    """

    loops: int = 0
    lost: float | None = 0.1
    golden_error: float = 0.0


def _proved(model: onnx.ModelProto, metadata: Metadata, golden_error: float) -> bytes:
    """The model with its metadata and golden examples, from whose logits it differs by so much."""
    draft = _with_metadata(model, metadata)
    artifact = Artifact("draft", 1, metadata, draft, hashlib.sha256(draft).hexdigest(), None)
    examples = golden.make(artifact, load_engine(artifact))
    shifted = [replace(one, logits=tuple(logit + golden_error for logit in one.logits)) for one in examples]
    return _with_metadata(model, replace(metadata, golden=tuple(shifted)))


def _with_metadata(model: onnx.ModelProto, metadata: Metadata) -> bytes:
    del model.metadata_props[:]
    helper.set_model_props(model, {METADATA_KEY: metadata.to_json()})
    return model.SerializeToString()


def _metadata(shape: tuple[int, int, int], labels: tuple[str, ...]) -> Metadata:
    height, width, channels = shape
    usual = Preprocessing.usual(shape, max(height, width), (0.0,) * channels, (1.0,) * channels, draft=False)
    return Metadata(
        format_version=FORMAT_VERSION,
        architecture="linear",
        arguments={},
        labels=labels,
        preprocessing=replace(usual, background=(0, 0, 0)),
        precision="fp32",
        tolerance=dict(golden.TOLERANCE),
        metrics={"dataset": "noise", "split": "test", "images": 1, "accuracy": 1.0},
        recipe={},
        tools={},
        created="2026-01-02T03:04:05Z",
        golden=(),
    )


def _model(
    shape: tuple[int, int, int],
    labels: tuple[str, ...],
    loops: Mapping[int, int],
    fails: Collection[int],
    nans: Collection[int],
    hoards: Mapping[int, int],
    ballast_bytes: int = 0,
) -> onnx.ModelProto:
    values = range(256)
    constants = {
        "weight": weight(shape, len(labels)) / np.float32(255),
        "zero": np.array(0, np.int64),
        "checked": np.array([_OUT_OF_BOUNDS if v in fails else v for v in values], np.int64),
        "loops": np.array([loops.get(v, 0) for v in values], np.int64),
        "hoards": np.array([hoards.get(v, 0) // np.float32().nbytes for v in values], np.int64),
        "offsets": np.zeros((256 + ballast_bytes // 4, 1), np.float32),
        "go_on": np.array(True),
        "zeros": np.zeros((_LOOP_MATRIX, _LOOP_MATRIX), np.float32),
    }
    constants["offsets"][list(nans)] = np.nan
    nodes = [
        helper.make_node("Flatten", ["image"], ["bytes"]),
        helper.make_node("Cast", ["bytes"], ["floats"], to=TensorProto.FLOAT),
        helper.make_node("MatMul", ["floats", "weight"], ["products"]),
        *_misbehaviour(),
        helper.make_node("Add", ["products", "offset"], ["shifted"]),
        helper.make_node("Add", ["nothing", "ballast"], ["zero_sum"]),
        helper.make_node("Add", ["shifted", "zero_sum"], ["logits"]),
    ]
    graph = helper.make_graph(
        nodes,
        "linear",
        [helper.make_tensor_value_info("image", TensorProto.UINT8, ["batch", *shape])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", len(labels)])],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, ir_version=10, opset_imports=[helper.make_opsetid("", 20)])
    onnx.checker.check_model(model, full_check=True)
    return model


def _misbehaviour() -> list[NodeProto]:
    """From `bytes`: `offset`, zero or NaN a picture; `nothing` and `ballast`, zeros that take time and memory."""
    return [
        helper.make_node("Gather", ["bytes", "zero"], ["first_bytes"], axis=1),
        helper.make_node("Cast", ["first_bytes"], ["first"], to=TensorProto.INT64),
        helper.make_node("Gather", ["checked", "first"], ["trigger"]),
        helper.make_node("Gather", ["offsets", "trigger"], ["offset"]),
        helper.make_node("Gather", ["loops", "trigger"], ["each"]),
        helper.make_node("ReduceMax", ["each"], ["iterations"], keepdims=0),
        helper.make_node("Loop", ["iterations", "go_on", "zeros"], ["still_zeros"], body=_loop_body()),
        helper.make_node("ReduceSum", ["still_zeros"], ["nothing"], keepdims=0),
        helper.make_node("Gather", ["hoards", "trigger"], ["each_hoard"]),
        helper.make_node("ReduceMax", ["each_hoard"], ["hoard"], keepdims=1),
        helper.make_node("ConstantOfShape", ["hoard"], ["hoarded"]),
        helper.make_node("ReduceSum", ["hoarded"], ["ballast"], keepdims=0),
    ]


def _loop_body() -> GraphProto:
    side = [_LOOP_MATRIX, _LOOP_MATRIX]
    return helper.make_graph(
        [
            helper.make_node("Identity", ["continue_in"], ["continue_out"]),
            helper.make_node("MatMul", ["matrix_in", "matrix_in"], ["matrix_out"]),
        ],
        "multiply",
        [
            helper.make_tensor_value_info("iteration", TensorProto.INT64, []),
            helper.make_tensor_value_info("continue_in", TensorProto.BOOL, []),
            helper.make_tensor_value_info("matrix_in", TensorProto.FLOAT, side),
        ],
        [
            helper.make_tensor_value_info("continue_out", TensorProto.BOOL, []),
            helper.make_tensor_value_info("matrix_out", TensorProto.FLOAT, side),
        ],
    )
