"""An ONNX classifier as a released model's graph: bytes of pictures in, normalised inside, logits out."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
import onnx
from onnx import ModelProto, NodeProto, TensorProto, helper

from models.artifact.metadata import Precision
from models.images.preprocessing import Preprocessing
from training.errors import OnnxImportError
from training.onnx_import.free_batch import BATCH, one_by_one, read_names, unpinned
from training.onnx_import.interface import Interface
from training.onnx_import.node_chain import NodeChain
from training.onnx_import.source import OnnxSource

Ending = Literal["logits", "softmax", "log-softmax", "probabilities", "sigmoid"]
"""What the origin's output is: logits; what a last node makes of them; probabilities that no last node makes."""

_NET = "net/"
"""In front of every name of the origin's, so that none is that of a node around it."""

FRONT_END = "front/inputs"
"""What the origin's own graph gets, inside a released model's."""

_OF_FORM = {"Identity", "Cast", "Flatten", "Reshape", "Squeeze", "Unsqueeze"}
"""Nodes that leave every number as it is."""

_LEAST_PROBABILITY = float(np.finfo(np.float32).tiny)
"""Below it no logarithm is taken: that of 0 is no number."""


@dataclass(frozen=True, slots=True)
class GraphCandidate:
    """A graph that should compute what the origin does; `batching` says how it came to take any batch."""

    batching: str
    build: Callable[[], bytes]
    """OnnxImportError if there is no such graph."""


@dataclass(frozen=True, slots=True)
class ClassifierGraph:
    """Ways to serve an ONNX file, best first, in the precision of its weights; `ending` is that of its own output."""

    candidates: tuple[GraphCandidate, ...]
    ending: Ending
    precision: Precision


def classifier_graph(
    source: OnnxSource, interface: Interface, preprocessing: Preprocessing, *, bgr: bool
) -> ClassifierGraph:
    """Put bytes in front and logits behind; OnnxImportError if the classes of the origin do not exclude each other."""
    net = onnx.compose.add_prefix(source.model, _NET)
    _clear_notes(net)
    output, ending = _end_in_logits(net, _NET + interface.output, interface)
    _prune(net, output)
    _pin_sides(net, interface.arranged_shape)
    name, batch = _NET + source.input.name, source.batch

    def freed() -> bytes:
        return _checked(_behind_pixels(unpinned(net, name), preprocessing, interface, bgr))

    def in_turn() -> bytes:
        return _checked(_behind_pixels(one_by_one(net, name, output, batch or 1), preprocessing, interface, bgr))

    words = "takes any batch" if batch is None else f"was for batches of {batch}, and takes any now"
    last = f"is for batches of {batch or 1} by its construction: the pictures of a batch run in turn"
    return ClassifierGraph((GraphCandidate(words, freed), GraphCandidate(last, in_turn)), ending, _precision(net))


def front(model: bytes) -> bytes:
    """The part of such a graph before the origin's own: from pictures [n, h, w, c] to FRONT_END."""
    part = onnx.load_model_from_string(model)
    nodes = [node for node in part.graph.node if node.output[0].startswith("front/")]
    weights = [tensor for tensor in part.graph.initializer if tensor.name.startswith("front/")]
    del part.graph.node[:], part.graph.initializer[:], part.graph.output[:]
    part.graph.node.extend(nodes)
    part.graph.initializer.extend(weights)
    part.graph.output.append(onnx.ValueInfoProto(name=FRONT_END))
    data: bytes = part.SerializeToString()
    return data


def _clear_notes(model: ModelProto) -> None:
    """Exporters note where on their machine each node's source is."""
    del model.metadata_props[:]
    for thing in (model, model.graph, *model.graph.node, *model.graph.input, *model.graph.initializer):
        thing.ClearField("doc_string")
    for thing in (model.graph, *model.graph.node, *model.graph.input, *model.graph.initializer):
        thing.ClearField("metadata_props")


def _end_in_logits(model: ModelProto, output: str, interface: Interface) -> tuple[str, Ending]:
    """Append and cut off what makes logits [n, classes] in fp32 of the output; the name of these, and what it was."""
    last, ending = _last_computation(model, output), _ending(model, output, interface)
    if last is not None and ending in ("softmax", "log-softmax", "sigmoid"):
        if ending == "sigmoid" and interface.classes > 1:
            raise OnnxImportError(
                f"the graph ends in Sigmoid: its {interface.classes} classes do not exclude each other, and the "
                "server gives probabilities that sum to 1: export it again without its last Sigmoid if that is right"
            )
        last.op_type = "Identity"
        del last.attribute[:]
    chain = _scores(output, ending, interface)
    model.graph.node.extend(chain.nodes)
    model.graph.initializer.extend(chain.constants)
    del model.graph.output[:]
    classes = max(interface.classes, 2)
    model.graph.output.append(helper.make_tensor_value_info(chain.end, TensorProto.FLOAT, [None, classes]))
    return chain.end, ending


def _scores(output: str, ending: Ending, interface: Interface) -> NodeChain:
    """What makes logits of the output: of one class those of two, 0 and z."""
    chain = NodeChain(output)
    chain.add("Cast", "end/float", to=TensorProto.FLOAT)
    chain.add("Flatten", "end/scores", axis=1)
    if ending == "probabilities":
        chain.add("Max", "end/positive", chain.constant("end/least", np.array(_LEAST_PROBABILITY, np.float32)))
        chain.add("Log", "end/logarithms")
    elif interface.classes == 1:
        chain.add("Sub", "end/zero", "end/scores")
        chain.add("Concat", "end/two", "end/scores", axis=1)
    return chain


def _ending(model: ModelProto, output: str, interface: Interface) -> Ending:
    last = _last_computation(model, output)
    kind = last.op_type if last else ""
    if kind == "Softmax" and interface.probabilities:
        return "softmax"
    if kind == "LogSoftmax":
        return "log-softmax"
    if kind == "Sigmoid":
        return "sigmoid"
    return "probabilities" if interface.probabilities else "logits"


def _last_computation(model: ModelProto, output: str) -> NodeProto | None:
    """The node that computes the numbers of the output, whatever brings them to their form behind it."""
    producers = {name: node for node in model.graph.node for name in node.output}
    node = producers.get(output)
    while node is not None and node.op_type in _OF_FORM:
        node = producers.get(node.input[0])
    return node


def _prune(model: ModelProto, output: str) -> None:
    """Leave out what the output does not need: other heads, and their weights."""
    needed, kept = {output}, []
    for node in reversed(model.graph.node):
        if needed.intersection(node.output):
            needed.update(read_names(node))
            kept.append(node)
    weights = [tensor for tensor in model.graph.initializer if tensor.name in needed]
    sparse = [tensor for tensor in model.graph.sparse_initializer if tensor.values.name in needed]
    del model.graph.node[:], model.graph.initializer[:], model.graph.sparse_initializer[:]
    model.graph.node.extend(reversed(kept))
    model.graph.initializer.extend(weights)
    model.graph.sparse_initializer.extend(sparse)


def _pin_sides(model: ModelProto, shape: tuple[int, int, int]) -> None:
    """Write down height, width and channels, where a graph takes any."""
    for dimension, length in zip(model.graph.input[0].type.tensor_type.shape.dim[1:], shape, strict=True):
        dimension.dim_value = length


def _behind_pixels(net: ModelProto, preprocessing: Preprocessing, interface: Interface, bgr: bool) -> ModelProto:
    """The graph from bytes [batch, h, w, c] in RGB to `logits`."""
    graph = net.graph
    chain = _from_pixels(graph.input[0], preprocessing, interface, bgr)
    end, classes = graph.output[0].name, max(interface.classes, 2)
    nodes = [*chain.nodes, *graph.node, helper.make_node("Identity", [end], ["logits"])]
    del graph.node[:], graph.input[:], graph.output[:], graph.value_info[:]
    graph.node.extend(nodes)
    graph.initializer.extend(chain.constants)
    graph.input.append(helper.make_tensor_value_info("image", TensorProto.UINT8, [BATCH, *preprocessing.shape]))
    graph.output.append(helper.make_tensor_value_info("logits", TensorProto.FLOAT, [BATCH, classes]))
    return net


def _from_pixels(
    target: onnx.ValueInfoProto, preprocessing: Preprocessing, interface: Interface, bgr: bool
) -> NodeChain:
    """What makes the network's input of bytes: normalised, unless it takes bytes itself, and arranged as it wants."""
    element = target.type.tensor_type.elem_type
    chain = NodeChain("image")
    chain.add("Transpose", "front/planes", perm=[0, 3, 1, 2])
    if bgr:
        chain.add("Gather", "front/ordered", chain.constant("front/order", np.array([2, 1, 0], np.int64)), axis=1)
    if element != TensorProto.UINT8:
        order = slice(None, None, -1 if bgr else 1)
        mean, scale = (
            np.array(values, np.float64)[order].astype(np.float32).reshape(-1, 1, 1)
            for values in (255 * np.array(preprocessing.mean), 1 / (255 * np.array(preprocessing.std)))
        )
        chain.add("Cast", "front/levels", to=TensorProto.FLOAT)
        chain.add("Sub", "front/centred", chain.constant("front/mean", mean))
        chain.add("Mul", "front/normalised", chain.constant("front/scale", scale))
    if interface.layout == "nhwc":
        chain.add("Transpose", "front/arranged", perm=[0, 2, 3, 1])
    chain.add("Cast", FRONT_END, to=element)
    chain.add("Identity", target.name)
    return chain


def _checked(model: ModelProto) -> bytes:
    try:
        onnx.checker.check_model(model)
    except onnx.checker.ValidationError as error:
        raise OnnxImportError(f"ONNX's checker refuses the graph: {str(error).partition(chr(10))[0]}") from error
    data: bytes = model.SerializeToString()
    return data


def _precision(model: ModelProto) -> Precision:
    if any("Quantize" in node.op_type or node.op_type.endswith("Integer") for node in model.graph.node):
        return "int8"
    types = {tensor.data_type for tensor in model.graph.initializer}
    return "fp16" if TensorProto.FLOAT16 in types else "fp32"
