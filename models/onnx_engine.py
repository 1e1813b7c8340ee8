"""The ONNX Runtime engine."""

import re

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from models.artifact import Artifact
from models.engine import EngineError

_DEVICE = re.compile(r"cpu|(cuda|tensorrt)(?::(\d+))?")
_GPU_PROVIDERS = {"cuda": "CUDAExecutionProvider", "tensorrt": "TensorrtExecutionProvider"}


class OnnxEngine:
    """Runs the bytes of an artifact's `model.onnx`.

    `device` is `cpu`, `cuda[:N]` or `tensorrt[:N]`; `threads` are those that share one `run` on a CPU.
    """

    name = "onnxruntime"

    def __init__(self, artifact: Artifact, *, device: str, threads: int) -> None:
        self.device, providers = _providers(device)
        self.precision: str = artifact.metadata.precision
        self._classes = artifact.classes
        try:
            self._session = ort.InferenceSession(artifact.model, _options(threads, self.device), providers)
        except Exception as error:  # ONNX Runtime's errors have no common base below Exception
            raise EngineError(f"ONNX Runtime cannot load {artifact.name} on {device}: {error}") from error

    def run(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Logits [n, classes] of images [n, height, width, channels]; EngineError when it fails."""
        try:
            logits: NDArray[np.float32] = self._session.run(None, {"image": images})[0]
        except Exception as error:
            raise EngineError(f"ONNX Runtime failed on a batch of {images.shape}: {error}") from error
        if logits.shape != (len(images), self._classes):
            raise EngineError(f"{len(images)} images in, {logits.shape} out, {self._classes} classes expected")
        return logits


def _options(threads: int, device: str) -> ort.SessionOptions:
    options = ort.SessionOptions()
    # 0 would pin one thread to each core of the machine, which fails where a container may use fewer.
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_ALL
    # A spinning thread takes the core that the web process needs.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    if device != "cpu":
        # Fail at start rather than serve slowly.
        options.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
    return options


def _providers(device: str) -> tuple[str, list[tuple[str, dict[str, str]]]]:
    """The device's full name, and ONNX Runtime's providers for it, first choice first."""
    match = _DEVICE.fullmatch(device)
    if match is None:
        raise EngineError(f"unknown device {device!r}; choose cpu, cuda, cuda:N, tensorrt or tensorrt:N")
    kind, number = match[1], match[2] or "0"
    if kind is None:
        return "cpu", [("CPUExecutionProvider", {})]
    # TensorRT leaves the nodes that it cannot take to CUDA.
    wanted = ["tensorrt", "cuda"] if kind == "tensorrt" else ["cuda"]
    available = ort.get_available_providers()
    for name in wanted:
        if _GPU_PROVIDERS[name] not in available:
            raise EngineError(
                f"device {device!r} needs ONNX Runtime's {_GPU_PROVIDERS[name]}, which is not installed; "
                "install resnet-serve[gpu] instead of [cpu], or choose --device cpu"
            )
    ort.preload_dlls()
    return f"{kind}:{number}", [(_GPU_PROVIDERS[name], {"device_id": number}) for name in wanted]
