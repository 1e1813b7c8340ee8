"""An ONNX graph in 8 bits: quantised and dequantised tensors between its nodes, which ONNX Runtime fuses with them."""

import errno
import os
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

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
from training.release.onnx_export import IR_VERSION

FIRST: Final = "first convolution"
LAST: Final = "classifier"
"""The layers at both ends of a network, which can stay in fp32."""

WEIGHT_BITS: Final = 7
"""Bits of a weight, with its sign. CPUs without VNNI add two products of activation and weight in 16 bits, and what is
beyond 32,767 is lost: 2 x 255 x 64 is 32,640, 2 x 255 x 127 is 64,770. With 7 bits the sums are the same everywhere."""

CALIBRATION_BATCH = 4
"""Images in a batch of the calibration, whose activations, 90 MB each of a ResNet-50, are in memory at once."""

_COPIES = 4
"""Of a graph, which ONNX Runtime's tools have on disk at once at most: for CIFAR-10's ResNet-20 three are enough."""

_LEAST_OPSET = 13
"""Operator set whose DequantizeLinear has a scale for each channel."""

_LARGEST_WEIGHT = 1 << (WEIGHT_BITS - 1)

_BIAS_UNITS = 1 << 24
"""Most units of a bias, which is written in those of its channel's scale. If the channel's weights are nearly 0, so is
the scale, and a bias leaves no room in 32 bits for the sums; for weights of 0 the scale is 1, and it is rounded off."""

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
        with _explained():
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
                extra_options={
                    # Logits in 256 levels would often be equal.
                    "OpTypesToExcludeOutputQuantization": ["Gemm", "MatMul"],
                    "TensorQuantOverrides": self._wider_channels(),
                },
            )
            quantizer.quantize_model()
            quantizer.model.topological_sort()
            return _tidied(quantizer.model.model)

    def _wider_channels(self) -> dict[str, list[dict[str, Any]]]:
        """The range of each channel's weights in the layers that have nearly dead ones, as ONNX Runtime takes it."""
        values = {tensor.name: numpy_helper.to_array(tensor) for tensor in self.model.graph.initializer}
        overrides = {}
        for node in self.model.graph.node:
            if node.op_type not in ("Conv", "Gemm") or not all(name in values for name in node.input[1:]):
                continue
            weights, *biases = (values[name] for name in node.input[1:])
            transposed = any(each.name == "transB" and each.i for each in node.attribute)
            axis = 0 if node.op_type == "Conv" or transposed else 1
            widest = np.abs(weights).max(tuple(set(range(weights.ndim)) - {axis}))
            unit = self._scale(node.input[0]) * _BIAS_UNITS / _LARGEST_WEIGHT
            ranges = np.maximum(widest, np.abs(biases[0]) / unit if biases else 0)
            if (ranges > widest).any():
                overrides[node.input[1]] = [{"axis": axis, "rmin": -each, "rmax": each} for each in ranges]
        return overrides

    def _scale(self, activation: str) -> np.float32:
        """What a level of an activation is worth."""
        low, high = (np.asarray(each).item() for each in self.ranges[activation].range_value)
        return np.float32(max(high, 0) - min(low, 0)) / np.float32(255) or np.float32(1)


def calibrate(
    model: bytes, batches: Iterable[NDArray[np.uint8]], method: CalibrationChoice = "min-max"
) -> CalibratedGraph:
    """Meet the ranges of a graph of `onnx_export` on batches of pixels [n, h, w, c]; one batch is in memory at once.

    They are from the least to the largest value that is met, or hold the usual ones if by percentile. QuantizeError if
    there is no convolution.
    """
    with TemporaryDirectory() as folder:
        _check_room(folder, len(model))
        prepared = Path(folder) / "prepared.onnx"
        _prepare(onnx.load_from_string(model), prepared)
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


def _check_room(folder: str, size: int) -> None:
    """OSError if the disk has too little room: some of ONNX Runtime's tools do not notice that a file is cut off."""
    if shutil.disk_usage(folder).free < _COPIES * size:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), folder)


def _prepare(model: onnx.ModelProto, path: Path) -> None:
    """Write the model with the shape of each tensor; QuantizeError if it cannot be quantised."""
    opset = max((each.version for each in model.opset_import if each.domain in ("", "ai.onnx")), default=0)
    if opset < _LEAST_OPSET:
        raise QuantizeError(
            f"the graph is of operator set {opset}, scales for each channel need {_LEAST_OPSET}: export it again so"
        )
    if not any(node.op_type == "Conv" for node in model.graph.node):
        raise QuantizeError("the graph has no convolution: there is nothing to gain, leave it in fp32")
    with _explained():
        quant_pre_process(model, path)


@contextmanager
def _explained() -> Iterator[None]:
    """Turn what ONNX Runtime's tools raise for graphs of others into a QuantizeError."""
    try:
        yield
    except (QuantizeError, OSError):  # a full disk is not the graph's fault
        raise
    except Exception as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise QuantizeError(f"ONNX Runtime cannot quantise this graph ({reason}): serve it in fp32") from error


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
        nodes.append(next(node for node in reversed(graph.node) if node.op_type in ("Gemm", "MatMul", "Conv")))
    return [node.name for node in nodes]


def _tidied(model: onnx.ModelProto) -> bytes:
    """The model without metadata of tools and the operator sets that no node is of, checked."""
    model.ir_version = min(model.ir_version, IR_VERSION)
    domains = {node.domain for node in model.graph.node}
    used = [each for each in model.opset_import if each.domain in domains | {""}]
    del model.opset_import[:]
    model.opset_import.extend(used)
    del model.metadata_props[:]
    onnx.checker.check_model(model, full_check=True)
    weights = [
        numpy_helper.to_array(each) for each in model.graph.initializer if each.data_type == onnx.TensorProto.INT8
    ]
    if any(np.abs(each.astype(np.int16)).max(initial=0) > _LARGEST_WEIGHT for each in weights):
        raise QuantizeError(
            f"a weight has more than {WEIGHT_BITS} bits: its sums would saturate on CPUs without VNNI; none must"
        )
    data: bytes = model.SerializeToString()
    return data
