"""A graph that was exported for batches of one size, made to take any."""

from collections.abc import Iterable, Sequence

import numpy as np
import onnx
from onnx import GraphProto, ModelProto, NodeProto, helper, numpy_helper

from training.errors import OnnxImportError
from training.onnx_import.session import make_session

BATCH = "batch"
"""Name of the free dimension."""

_SCAN_OPSET = 9
"""First operator set whose Scan has no batch of its own."""


def unpinned(model: ModelProto, name: str) -> ModelProto:
    """A copy whose input `name` is of any batch size, and whose shapes do not hold a batch of one size.

    Exporters write the sizes that they have seen: into Reshape, whose first length is left open here, and into
    constants that are concatenated with what is computed of pictures (a transformer's class token), which are repeated
    for each picture. The result is a guess, which has to be compared with the model.
    """
    freed = ModelProto()
    freed.CopyFrom(model)
    graph = freed.graph
    (entry,) = (value for value in graph.input if value.name == name)
    size = entry.type.tensor_type.shape.dim[0].dim_value
    entry.type.tensor_type.shape.dim[0].dim_param = BATCH
    for value in graph.output:
        value.type.tensor_type.ClearField("shape")
    del graph.value_info[:]
    if size:
        _Unpinning(graph, name, size, _seen_shapes(model, name)).run()
    return freed


def one_by_one(model: ModelProto, name: str, output: str, size: int) -> ModelProto:
    """The graph run for each picture of a batch in turn: always right, and no faster for a batch than for each alone.

    A graph for batches of a larger size gets each picture so many times, and its first answer is taken. OnnxImportError
    if the operator set of the graph is too old.
    """
    opset = next(each.version for each in model.opset_import if not each.domain)
    if opset < _SCAN_OPSET:
        raise OnnxImportError(
            f"the graph is for batches of {size} by its construction, and with its operator set {opset} the pictures "
            f"of a batch cannot run in turn: export it again for any batch, or with operator set {_SCAN_OPSET} or newer"
        )
    result = ModelProto()
    result.CopyFrom(model)
    graph = result.graph
    (entry,) = (value for value in graph.input if value.name == name)
    (end,) = (value for value in graph.output if value.name == output)
    shape = [each.dim_value for each in entry.type.tensor_type.shape.dim[1:]]
    kind, answer = entry.type.tensor_type.elem_type, end.type.tensor_type.elem_type
    nodes = [
        helper.make_node("Reshape", ["one/picture", "one/shape"], ["one/batch"]),
        helper.make_node("Concat", ["one/batch"] * size, [name], axis=0),
        *graph.node,
        helper.make_node("Gather", [output, "one/first"], ["one/answer"], axis=0),
    ]
    picture = helper.make_tensor_value_info("one/picture", kind, shape)
    body = helper.make_graph(nodes, "one", [picture], [helper.make_tensor_value_info("one/answer", answer, None)])
    scan = helper.make_node("Scan", ["one/pictures"], ["one/answers"], body=body, num_scan_inputs=1)
    pictures = helper.make_tensor_value_info("one/pictures", kind, [BATCH, *shape])
    answers = helper.make_tensor_value_info("one/answers", answer, None)
    del graph.node[:], graph.input[:], graph.output[:], graph.value_info[:]
    graph.node.append(scan)
    graph.initializer.append(numpy_helper.from_array(np.array([1, *shape], np.int64), "one/shape"))
    graph.initializer.append(numpy_helper.from_array(np.array(0, np.int64), "one/first"))
    graph.input.append(pictures)
    graph.output.append(answers)
    return result


class _Unpinning:
    """The rewriting of one graph in place."""

    def __init__(self, graph: GraphProto, name: str, size: int, shapes: dict[str, tuple[int, ...]]) -> None:
        self._graph, self._name, self._size, self._shapes = graph, name, size, shapes
        self._nodes: list[NodeProto] = []
        self._of_pictures = {name}

    def run(self) -> None:
        """Go through the nodes in order; those that no picture reaches stay as they are."""
        for node in self._graph.node:
            if self._of_pictures.intersection(read_names(node)):
                self._of_pictures.update(node.output)
                if node.op_type == "Reshape":
                    self._open_reshape(node)
                elif node.op_type == "Concat":
                    self._repeat_constants(node)
            self._nodes.append(node)
        del self._graph.node[:]
        self._graph.node.extend(self._nodes)

    def _open_reshape(self, node: NodeProto) -> None:
        """The first length is what the batch gives; the others are those that were seen."""
        shape = self._shapes.get(node.output[0])
        if shape and node.input[1] not in self._of_pictures:
            node.input[1] = self._constant(f"{node.output[0]}/shape", [-1, *shape[1:]])

    def _repeat_constants(self, node: NodeProto) -> None:
        for place, name in enumerate(node.input):
            shape = self._shapes.get(name, ())
            if name not in self._of_pictures and len(shape) > 1 and shape[0] == self._size:
                node.input[place] = self._repeated(name, shape)

    def _repeated(self, name: str, shape: tuple[int, ...]) -> str:
        """The first of the constant's equal parts, for each picture of the batch."""
        target = f"{name}/repeated"
        if target in self._of_pictures:
            return target
        self._of_pictures.add(target)
        zero = self._constant(f"{name}/first", [0])
        rest = self._constant(f"{name}/rest", shape[1:])
        self._nodes += [
            helper.make_node("Gather", [name, zero], [f"{name}/one"], axis=0),
            helper.make_node("Shape", [self._name], [f"{name}/lengths"]),
            helper.make_node("Gather", [f"{name}/lengths", zero], [f"{name}/size"], axis=0),
            helper.make_node("Concat", [f"{name}/size", rest], [f"{name}/wanted"], axis=0),
            helper.make_node("Expand", [f"{name}/one", f"{name}/wanted"], [target]),
        ]
        return target

    def _constant(self, name: str, values: Sequence[int]) -> str:
        self._graph.initializer.append(numpy_helper.from_array(np.array(values, np.int64), name))
        return name


def _seen_shapes(model: ModelProto, name: str) -> dict[str, tuple[int, ...]]:
    """The shape of what is read or written by each node that may hold a batch's size, met on a black picture."""
    probe = ModelProto()
    probe.CopyFrom(model)
    (entry,) = (value for value in probe.graph.input if value.name == name)
    del probe.graph.output[:]
    seen = {each.name: tuple(each.dims) for each in probe.graph.initializer}
    pinning = [node for node in probe.graph.node if node.op_type in ("Reshape", "Concat")]
    wanted = {each: None for node in pinning for each in (*node.input, *node.output) if each not in seen}
    wanted.pop(name, None)
    probe.graph.output.extend(onnx.ValueInfoProto(name=each) for each in wanted)
    if not wanted:
        return seen
    session = make_session(probe.SerializeToString())
    black = np.zeros(
        [each.dim_value for each in entry.type.tensor_type.shape.dim],
        helper.tensor_dtype_to_np_dtype(entry.type.tensor_type.elem_type),
    )
    values = session.run(list(wanted), {name: black})
    return seen | {each: value.shape for each, value in zip(wanted, values, strict=True)}


def read_names(node: NodeProto) -> Iterable[str]:
    """What a node reads, also in graphs inside it."""
    yield from node.input
    for attribute in node.attribute:
        for graph in (*attribute.graphs, *([attribute.g] if attribute.HasField("g") else [])):
            for inner in graph.node:
                yield from read_names(inner)
