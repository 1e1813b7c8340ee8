"""How an ONNX Runtime session is made: on a CPU, and on a GPU by the provider and its options that a backend means."""

import hashlib
import os
from collections.abc import Sequence
from contextlib import redirect_stdout, suppress
from importlib import import_module
from io import StringIO
from pathlib import Path

import onnxruntime as ort

from models.engines.backend import Backend
from models.engines.engine import EngineError
from models.machine.devices import too_old_driver

_CPU, _CUDA, _TENSORRT = (f"{name}ExecutionProvider" for name in ("CPU", "CUDA", "Tensorrt"))
_TENSORRT_FLAGS = {"fp16": "trt_fp16_enable", "bf16": "trt_bf16_enable"}

_FATAL = 4  # ONNX Runtime writes plain text beside our log, and raises what matters

Providers = list[tuple[str, dict[str, str]]]


def make_session(name: str, graph: bytes, threads: int) -> ort.InferenceSession:
    """A session on the CPU, of so many threads; EngineError if ONNX Runtime does not take the graph."""
    return _session(name, graph, _options(threads), [(_CPU, {})])


def make_gpu_session(
    name: str, graph: bytes, threads: int, backend: Backend, number: str, shape: tuple[int, ...]
) -> ort.InferenceSession:
    """A session that runs every node on the GPU of that number, or an EngineError: fail rather than serve slowly.

    `shape` is that of the largest batch.
    """
    providers = gpu_providers(backend, number, shape, _engine_cache(graph))
    wanted = [provider for provider, _ in providers]
    if missing := set(wanted).difference(ort.get_available_providers()):
        raise EngineError(
            f"this ONNX Runtime {ort.__version__} has no {' and no '.join(sorted(missing))}: install "
            "resnet-serve[gpu] instead of [cpu], or choose --device cpu"
        )
    ort.set_default_logger_severity(_FATAL)
    missing_libraries = _load_libraries(wanted)
    options = _options(threads)
    options.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
    try:
        session = _session(name, graph, options, providers)
    except EngineError as error:
        raise EngineError(f"{error}; {_hint(wanted, missing_libraries)}") from error
    # A provider that cannot be made is left out with no more than a line in ONNX Runtime's log.
    if left_out := set(wanted).difference(session.get_providers()):
        started = " and ".join(sorted(left_out))
        raise EngineError(f"ONNX Runtime cannot start {started}; {_hint(wanted, missing_libraries)}")
    return session


def _load_libraries(providers: Sequence[str]) -> str:
    """Load what the providers need from pip's packages, or where the system has it; what cannot be, in words."""
    with redirect_stdout(StringIO()) as told:  # it prints what it misses
        ort.preload_dlls()
    if _TENSORRT in providers:
        with suppress(ImportError, OSError):
            import_module("tensorrt")  # which loads its libraries from where pip has put them
    failures = (line for line in told.getvalue().splitlines() if line.startswith("Failed"))
    return "; ".join(failures)


def _hint(providers: Sequence[str], missing_libraries: str) -> str:
    """Why the providers do not start, as far as it can be found out."""
    cuda = ort.cuda_version or ""
    if too_old := too_old_driver(cuda):
        return f"{too_old}; update the driver" + (
            "" if cuda.startswith("12") else ", or install resnet-serve[gpu-cuda12]"
        )
    extra = "resnet-serve[gpu-cuda12]" if cuda.startswith("12") else "resnet-serve[gpu]"
    if missing_libraries:
        return f"{missing_libraries}; pip install '{extra}'"
    tensorrt = ", and TensorRT 10 (pip install 'tensorrt<11')" if _TENSORRT in providers else ""
    return f"does `nvidia-smi` work, and is cuDNN installed (pip install '{extra}'){tensorrt}?"


def gpu_providers(backend: Backend, number: str, shape: tuple[int, ...], cache: Path | None) -> Providers:
    """ONNX Runtime's providers, first choice first; TensorRT keeps in `cache` what it takes minutes to build."""
    cuda = {
        "device_id": number,
        "use_tf32": str(int(backend.precision == "tf32")),
        # The others try every algorithm for half a second a new shape, or take one that can be fifty times slower.
        "cudnn_conv_algo_search": "HEURISTIC",
        "prefer_nhwc": str(int(backend.channels_last)),
        "enable_cuda_graph": str(int(backend.cuda_graphs)),
    }
    if backend.engine != "tensorrt":
        return [(_CUDA, cuda)]
    # One engine for every batch size; without these TensorRT builds anew whenever a larger batch comes.
    sizes = {"min": 1, "opt": shape[0], "max": shape[0]}
    tensorrt = {"device_id": number} | {
        f"trt_profile_{name}_shapes": "image:" + "x".join(map(str, (size, *shape[1:]))) for name, size in sizes.items()
    }
    if backend.precision in _TENSORRT_FLAGS:
        tensorrt[_TENSORRT_FLAGS[backend.precision]] = "True"  # unlike CUDA's provider this one refuses 1
    if cache:
        for kind in ("engine", "timing"):
            tensorrt |= {f"trt_{kind}_cache_enable": "True", f"trt_{kind}_cache_path": str(cache)}
    # TensorRT leaves the nodes that it cannot take to CUDA.
    return [(_TENSORRT, tensorrt), (_CUDA, cuda)]


def _engine_cache(graph: bytes) -> Path | None:
    """A folder of this user's for what TensorRT has built of this graph, None if it cannot be written.

    Within it ONNX Runtime tells engines apart by names of nodes, which other weights of the same network share.
    """
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    folder = home / "resnet-serve" / "tensorrt" / hashlib.sha256(graph).hexdigest()
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError:
        return None
    return folder if os.access(folder, os.W_OK) else None


def _session(name: str, graph: bytes, options: ort.SessionOptions, providers: Providers) -> ort.InferenceSession:
    try:
        # Without enable_fallback=0 a provider that does not start is replaced by the CPU's without an error.
        session = ort.InferenceSession(graph, options, providers, enable_fallback=0)
    except Exception as error:
        raise EngineError(f"ONNX Runtime cannot load {name} with {providers[0][0]}: {error}") from error
    session._model_bytes = None  # kept for a fallback: as much memory as the model itself
    return session


def _options(threads: int) -> ort.SessionOptions:
    options = ort.SessionOptions()
    options.log_severity_level = _FATAL
    # 0 would pin one thread to each core of the machine, which fails where a container may use fewer.
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_ALL
    # A spinning thread takes the core that the API process needs.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return options
