"""The sums of a convolution in 8 bits, as CPUs with VNNI compute them and as those without do, written out in NumPy.

With VNNI four products of an activation and a weight are added in 32 bits (VPDPBUSD). Without it two are added in 16
bits, and what is beyond their range is cut off (PMADDUBSW); these sums are then added in 32 bits.
"""

import numpy as np
import onnx
import onnxruntime as ort
from numpy.typing import NDArray
from onnx import helper, numpy_helper

Layer = tuple[NDArray[np.uint8], int, NDArray[np.int8], onnx.NodeProto]


def convolutions(model: bytes, pixels: NDArray[np.uint8]) -> list[Layer]:
    """Activations, their zero point, weights and node of each convolution in 8 bits, of images [n, h, w, c]."""
    proto = onnx.load_from_string(model)
    makers = {output: node for node in proto.graph.node for output in node.output}
    values = {tensor.name: numpy_helper.to_array(tensor) for tensor in proto.graph.initializer}
    nodes = [node for node in proto.graph.node if node.op_type == "Conv"]
    dequantized = [(makers[node.input[0]], makers[node.input[1]]) for node in nodes]
    names = list(dict.fromkeys(activation.input[0] for activation, _ in dequantized))
    proto.graph.output.extend(helper.make_tensor_value_info(name, onnx.TensorProto.UINT8, None) for name in names)
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    session = ort.InferenceSession(proto.SerializeToString(), options)
    found = dict(zip(names, session.run(names, {"image": pixels}), strict=True))
    return [
        (found[activation.input[0]], int(values[activation.input[2]]), values[weight.input[0]], node)
        for node, (activation, weight) in zip(nodes, dequantized, strict=True)
    ]


def sums(layer: Layer, *, saturating: bool) -> NDArray[np.int64]:
    """The sums [n, h, w, channels] of a layer's products, whose order is that of channels-last memory."""
    activations, zero, weights, node = layer
    attributes = {each.name: helper.get_attribute_value(each) for each in node.attribute}
    top, left, bottom, right = attributes.get("pads", (0, 0, 0, 0))
    down, across = attributes.get("strides", (1, 1))
    padded = np.pad(activations, ((0, 0), (0, 0), (top, bottom), (left, right)), constant_values=zero)
    windows = np.lib.stride_tricks.sliding_window_view(padded, weights.shape[2:], (2, 3))[:, :, ::down, ::across]
    columns = windows.transpose(0, 2, 3, 4, 5, 1).reshape(*windows.shape[:1], *windows.shape[2:4], -1)
    rows = weights.transpose(0, 2, 3, 1).reshape(len(weights), -1)
    return added(columns, rows, saturating=saturating)


def added(columns: NDArray[np.uint8], rows: NDArray[np.int8], *, saturating: bool) -> NDArray[np.int64]:
    """The sums [..., n] of products of activations [..., k] and weights [n, k]."""
    products = columns[..., None, :].astype(np.int32) * rows.astype(np.int32)
    if odd := products.shape[-1] % 2:
        products = np.pad(products, [(0, 0)] * (products.ndim - 1) + [(0, odd)])
    pairs = products[..., ::2] + products[..., 1::2]
    return (pairs.clip(-32_768, 32_767) if saturating else pairs).sum(-1, dtype=np.int64)
