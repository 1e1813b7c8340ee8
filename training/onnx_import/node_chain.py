"""Nodes of a graph, one behind the other."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import NodeProto, TensorProto, helper, numpy_helper


class NodeChain:
    """Nodes that each work on what the one before gave, and the constants that they need.

    Attributes:
        end: name of what the last node gives; at first that of what the first one is to get.

    """

    def __init__(self, start: str) -> None:
        self.end = start
        self.nodes: list[NodeProto] = []
        self.constants: list[TensorProto] = []

    def add(self, operator: str, output: str, *others: str, **attributes: Any) -> None:  # noqa: ANN401 - ONNX's own
        """Append a node; `others` are its inputs behind what the one before gave."""
        self.nodes.append(helper.make_node(operator, [self.end, *others], [output], **attributes))
        self.end = output

    def constant(self, name: str, values: NDArray[np.float32] | NDArray[np.int64]) -> str:
        """Keep a constant, and return its name, for a node that needs it."""
        self.constants.append(numpy_helper.from_array(values, name))
        return name
