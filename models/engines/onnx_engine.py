"""The ONNX Runtime engine: on a CPU, or on an NVIDIA GPU through CUDA or TensorRT."""

from collections.abc import Callable

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from models.artifact.artifact import Artifact
from models.engines.backend import Backend
from models.engines.engine import EngineError
from models.engines.onnx_binding import BoundSession

_CUDA, _TENSORRT = "CUDAExecutionProvider", "TensorrtExecutionProvider"
_TENSORRT_FLAGS = {"fp16": "trt_fp16_enable", "bf16": "trt_bf16_enable", "int8": "trt_int8_enable"}

_Providers = list[tuple[str, dict[str, str]]]


class OnnxEngine:
    """Runs the bytes of an artifact's `model.onnx`; on a GPU the whole graph, or it is an EngineError.

    `threads` share one `run` on a CPU; batches on a GPU are padded, and have at most `max_batch` images.
    """

    def __init__(self, artifact: Artifact, candidate: Backend, *, device: str, threads: int, max_batch: int) -> None:
        self.name, self.library = candidate.engine, f"onnxruntime {ort.__version__}"
        self.device, self.precision = device, str(candidate.precision)
        self._classes = artifact.classes
        self._infer: Callable[[NDArray[np.uint8]], NDArray[np.float32]]
        if device == "cpu":
            session = _make_session(artifact, _options(threads), [("CPUExecutionProvider", {})])
            self._infer = lambda images: session.run(None, {"image": images})[0]
        else:
            number, shape = device.partition(":")[2] or "0", (max_batch, *artifact.input_shape)
            self.device = f"cuda:{number}"
            session = _make_gpu_session(artifact, threads, _gpu_providers(number, candidate, shape))
            self._infer = BoundSession(session, "cuda", int(number), shape).run

    def run(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Logits [n, classes] of images [n, height, width, channels]; EngineError when it fails."""
        try:
            logits = self._infer(images)
        except Exception as error:  # ONNX Runtime's errors have no common base below Exception
            raise EngineError(f"ONNX Runtime failed on a batch of {images.shape}: {error}") from error
        if logits.shape != (len(images), self._classes):
            raise EngineError(f"{len(images)} images in, {logits.shape} out, {self._classes} classes expected")
        return logits


def _make_session(artifact: Artifact, options: ort.SessionOptions, providers: _Providers) -> ort.InferenceSession:
    try:
        # Without enable_fallback=0 a provider that does not start is replaced by the CPU's without an error.
        return ort.InferenceSession(artifact.model, options, providers, enable_fallback=0)
    except Exception as error:
        raise EngineError(f"ONNX Runtime cannot load {artifact.name} with {providers[0][0]}: {error}") from error


def _options(threads: int) -> ort.SessionOptions:
    options = ort.SessionOptions()
    options.log_severity_level = 4  # only what is fatal: it writes plain text beside our log, and raises what matters
    # 0 would pin one thread to each core of the machine, which fails where a container may use fewer.
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_ALL
    # A spinning thread takes the core that the API process needs.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return options


def _make_gpu_session(artifact: Artifact, threads: int, providers: _Providers) -> ort.InferenceSession:
    """A session that runs every node on the GPU: fail at start rather than serve slowly."""
    wanted = [name for name, _ in providers]
    if missing := set(wanted).difference(ort.get_available_providers()):
        raise EngineError(
            f"this ONNX Runtime {ort.__version__} has no {' and no '.join(sorted(missing))}: install "
            "resnet-serve[gpu] instead of [cpu], or choose --device cpu"
        )
    ort.preload_dlls()  # CUDA and cuDNN from pip's packages
    options = _options(threads)
    options.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
    hint = "does `nvidia-smi` work, and are CUDA, cuDNN (pip install 'resnet-serve[gpu]')"
    hint += " and TensorRT (pip install tensorrt) installed?" if _TENSORRT in wanted else " installed?"
    try:
        session = _make_session(artifact, options, providers)
    except EngineError as error:
        raise EngineError(f"{error}; {hint}") from error
    # A provider that cannot be made is left out with no more than a line in ONNX Runtime's log.
    if left_out := set(wanted).difference(session.get_providers()):
        raise EngineError(f"ONNX Runtime cannot start {' and '.join(sorted(left_out))}; {hint}")
    return session


def _gpu_providers(number: str, candidate: Backend, shape: tuple[int, ...]) -> _Providers:
    """ONNX Runtime's providers, first choice first; `shape` is that of the largest batch."""
    precision = candidate.precision
    cuda = {"device_id": number, "use_tf32": str(int(precision == "tf32"))}
    if candidate.engine != "tensorrt":
        return [(_CUDA, cuda)]
    # One engine for every batch size; without these TensorRT builds anew whenever a larger batch comes.
    sizes = {"min": 1, "opt": shape[0], "max": shape[0]}
    profile = {
        f"trt_profile_{name}_shapes": "image:" + "x".join(map(str, (size, *shape[1:]))) for name, size in sizes.items()
    }
    flag = {_TENSORRT_FLAGS[precision]: "1"} if precision in _TENSORRT_FLAGS else {}
    # TensorRT leaves the nodes that it cannot take to CUDA.
    return [(_TENSORRT, {"device_id": number, **profile, **flag}), (_CUDA, cuda)]
