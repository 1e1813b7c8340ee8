"""An ONNX graph in 8 bits: quantised and dequantised tensors between its nodes, which ONNX Runtime fuses with them."""

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import numpy as np
import onnx
from numpy.typing import NDArray
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process

from training.errors import QuantizeError
from training.release.onnx_export import IR_VERSION, OPSET

FIRST: Final = "first convolution"
LAST: Final = "classifier"
"""The layers at both ends of a network, which can stay in fp32."""

_BATCH = 8
"""Images in a batch of the calibration."""


def to_int8(model: bytes, pixels: NDArray[np.uint8], in_fp32: tuple[str, ...] = ()) -> bytes:
    """Quantise a graph of `onnx_export`: weights to int8 per channel, activations to uint8, without metadata.

    Ranges of activations are those met on `pixels` [n, h, w, c]. `in_fp32` may hold FIRST and LAST, layers that stay as
    they are, as the normalisation in front of the network always does. QuantizeError if there is no convolution.
    """
    with TemporaryDirectory() as folder:
        prepared, quantized = Path(folder) / "prepared.onnx", Path(folder) / "quantized.onnx"
        quant_pre_process(onnx.load_from_string(model), prepared)
        quantize_static(
            prepared,
            quantized,
            _Pixels(pixels),
            quant_format=QuantFormat.QDQ,
            per_channel=True,
            # With 7-bit weights CPUs without VNNI do not saturate, but every CPU is less accurate.
            reduce_range=False,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            nodes_to_exclude=_excluded(onnx.load(prepared).graph, in_fp32),
            # Logits in 256 levels would often be equal.
            extra_options={"OpTypesToExcludeOutputQuantization": ["Gemm", "MatMul"]},
        )
        return _tidied(onnx.load(quantized))


class _Pixels(CalibrationDataReader):  # type: ignore[misc]
    """Feeds batches to the calibration."""

    def __init__(self, pixels: NDArray[np.uint8]) -> None:
        self._batches = iter(np.split(pixels, range(_BATCH, len(pixels), _BATCH)))

    def get_next(self) -> dict[str, NDArray[np.uint8]] | None:
        batch = next(self._batches, None)
        return None if batch is None else {"image": batch}


def _excluded(graph: onnx.GraphProto, in_fp32: tuple[str, ...]) -> list[str]:
    """Names of the nodes that stay in fp32: all before the first convolution, and the layers asked for."""
    kinds = [node.op_type for node in graph.node]
    if "Conv" not in kinds:
        raise QuantizeError("the graph has no convolution: there is nothing to gain")
    first = kinds.index("Conv")
    nodes = list(graph.node[: first + (FIRST in in_fp32)])
    if LAST in in_fp32:
        nodes.append(next(node for node in reversed(graph.node) if node.op_type in ("Gemm", "MatMul")))
    return [node.name for node in nodes]


def _tidied(model: onnx.ModelProto) -> bytes:
    """The model as `training.release.onnx_export` writes them: one operator set, no metadata of tools, checked."""
    model.ir_version = IR_VERSION
    del model.opset_import[:]
    model.opset_import.add(domain="", version=OPSET)
    del model.metadata_props[:]
    onnx.checker.check_model(model, full_check=True)
    data: bytes = model.SerializeToString()
    return data
