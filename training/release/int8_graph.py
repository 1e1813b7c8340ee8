"""An ONNX graph in 8 bits: quantised and dequantised tensors between its nodes, which ONNX Runtime fuses with them."""

from collections.abc import Iterable
from contextlib import redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper
from onnxruntime.quantization import (
    CalibrationDataReader,
    CalibrationMethod,
    QDQQuantizer,
    QuantType,
    TensorsData,
    create_calibrator,
    quant_pre_process,
)
from onnxruntime.quantization.registry import QDQRegistry

from training.errors import QuantizeError
from training.options import CalibrationChoice
from training.release.onnx_export import IR_VERSION, OPSET

FIRST: Final = "first convolution"
LAST: Final = "classifier"
"""The layers at both ends of a network, which can stay in fp32."""

WEIGHT_BITS: Final = 7
"""Bits of a weight, with its sign. CPUs without VNNI add two products of activation and weight in 16 bits, and what is
beyond 32,767 is lost: 2 x 255 x 64 is 32,640, 2 x 255 x 127 is 64,770. With 7 bits the sums are the same everywhere."""

CALIBRATION_BATCH = 4
"""Images in a batch of the calibration, whose activations, 90 MB each of a ResNet-50, are in memory at once."""

_LARGEST_WEIGHT = 1 << (WEIGHT_BITS - 1)

_METHODS = {"min-max": CalibrationMethod.MinMax, "percentile": CalibrationMethod.Percentile}

_PERCENTILE = 99.99
"""Per cent of an activation's values within its range, if that is calibrated by percentile."""


@dataclass(frozen=True, slots=True)
class CalibratedGraph:
    """A graph that is ready to be quantised, and the range of each of its activations."""

    model: onnx.ModelProto
    ranges: TensorsData

    def in_8_bits(self, in_fp32: tuple[str, ...] = ()) -> bytes:
        """Return the graph, weights of WEIGHT_BITS in int8 per channel, activations in uint8, without metadata.

        `in_fp32` may hold FIRST and LAST, layers that stay as they are, as the normalisation in front of the network
        always does.
        """
        model = onnx.ModelProto()
        model.CopyFrom(self.model)
        quantizer = QDQQuantizer(
            model,
            per_channel=True,
            reduce_range=True,  # WEIGHT_BITS instead of 8
            weight_qType=QuantType.QInt8,
            activation_qType=QuantType.QUInt8,
            tensors_range=self.ranges,
            nodes_to_quantize=[],
            nodes_to_exclude=_excluded(model.graph, in_fp32),
            op_types_to_quantize=list(QDQRegistry),
            # Logits in 256 levels would often be equal.
            extra_options={"OpTypesToExcludeOutputQuantization": ["Gemm", "MatMul"]},
        )
        quantizer.quantize_model()
        quantizer.model.topological_sort()
        return _tidied(quantizer.model.model)


def calibrate(
    model: bytes, batches: Iterable[NDArray[np.uint8]], method: CalibrationChoice = "min-max"
) -> CalibratedGraph:
    """Meet the ranges of a graph of `onnx_export` on batches of pixels [n, h, w, c]; one batch is in memory at once.

    They are from the least to the largest value that is met, or hold the usual ones if by percentile. QuantizeError if
    there is no convolution.
    """
    with TemporaryDirectory() as folder:
        prepared = Path(folder) / "prepared.onnx"
        quant_pre_process(onnx.load_from_string(model), prepared)
        if not any(node.op_type == "Conv" for node in onnx.load(prepared).graph.node):
            raise QuantizeError("the graph has no convolution: there is nothing to gain")
        calibrator = create_calibrator(
            prepared,
            augmented_model_path=str(Path(folder) / "augmented.onnx"),
            calibrate_method=_METHODS[method],
            extra_options={"symmetric": False, "percentile": _PERCENTILE},
        )
        for batch in batches:
            with redirect_stdout(None):  # it prints what it does
                calibrator.collect_data(_Batch(batch))
        with redirect_stdout(None):
            ranges = calibrator.compute_data()
        return CalibratedGraph(onnx.load(prepared), ranges)


def to_int8(model: bytes, pixels: NDArray[np.uint8], in_fp32: tuple[str, ...] = ()) -> bytes:
    """Calibrate on pixels [n, h, w, c] and return the graph in 8 bits, as `CalibratedGraph` does."""
    batches = np.split(pixels, range(CALIBRATION_BATCH, len(pixels), CALIBRATION_BATCH))
    return calibrate(model, batches).in_8_bits(in_fp32)


class _Batch(CalibrationDataReader):  # type: ignore[misc]
    """One batch: a calibrator keeps all activations of what it is given until the last is there."""

    def __init__(self, pixels: NDArray[np.uint8]) -> None:
        self._inputs = [{"image": pixels}]

    def get_next(self) -> dict[str, NDArray[np.uint8]] | None:
        return self._inputs.pop() if self._inputs else None


def _excluded(graph: onnx.GraphProto, in_fp32: tuple[str, ...]) -> list[str]:
    """Names of the nodes that stay in fp32: all before the first convolution, and the layers asked for."""
    first = [node.op_type for node in graph.node].index("Conv")
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
    weights = [
        numpy_helper.to_array(each) for each in model.graph.initializer if each.data_type == onnx.TensorProto.INT8
    ]
    if any(np.abs(each.astype(np.int16)).max(initial=0) > _LARGEST_WEIGHT for each in weights):
        raise QuantizeError(f"a weight has more than {WEIGHT_BITS} bits: its sums would saturate on CPUs without VNNI")
    data: bytes = model.SerializeToString()
    return data
