"""The ways to run a model: an engine, a precision, and the options that decide how fast it is on a device."""

from ctypes.util import find_library
from dataclasses import dataclass, replace
from importlib.util import find_spec

from models.artifact.artifact import INT8_FILE, Artifact
from models.artifact.metadata import Precision
from models.engines.engine import EngineError

AUTO = "onnxruntime"
AUTO_REASON = "it runs these networks faster than PyTorch on a CPU, starts sooner, and needs no torch"


@dataclass(frozen=True, slots=True)
class Backend:
    """One way to run a model.

    Attributes:
        engine: `onnxruntime`, `tensorrt` (inside ONNX Runtime) or `torch`.
        precision: of the arithmetic; int8 needs a graph in 8 bits.
        compiled: PyTorch's compiler; on a GPU with CUDA graphs.
        channels_last: ONNX Runtime keeps activations as a GPU's convolutions read them; PyTorch always does.
        cuda_graphs: ONNX Runtime records the kernels of each batch size once and replays them.

    """

    engine: str = AUTO
    precision: Precision = "fp32"
    compiled: bool = False
    channels_last: bool = False
    cuda_graphs: bool = False

    def builds_each_size(self, device: str) -> bool:
        """Whether the first batch of each size takes minutes on this device: its program is made then."""
        return device != "cpu" and (self.compiled or self.engine == "tensorrt")

    def __str__(self) -> str:
        options = {"compiled": self.compiled, "channels last": self.channels_last, "CUDA graphs": self.cuda_graphs}
        return ", ".join([f"{self.engine} {self.precision}", *(name for name, is_on in options.items() if is_on)])


_GPU_GRAPHS = (
    Backend(AUTO, "tf32"),
    Backend(AUTO, "tf32", cuda_graphs=True),
    Backend(AUTO, "fp16", channels_last=True),
    Backend(AUTO, "fp16", channels_last=True, cuda_graphs=True),
    Backend(AUTO, "fp32"),
)

# By engine and kind of device, the most exact of what `auto` and `fastest` may take first; fp32 on a GPU, where tf32 is
# as fast or faster, only if it is asked for.
_WAYS: dict[str, dict[str, tuple[Backend, ...]]] = {
    AUTO: {"cpu": (Backend(), Backend(precision="int8")), "cuda": _GPU_GRAPHS},
    "tensorrt": {"cuda": tuple(Backend("tensorrt", precision) for precision in ("tf32", "fp16", "bf16"))},
    "torch": {
        # Not fp16 on a CPU: convolutions in it take six to thirty times as long as in fp32.
        "cpu": tuple(Backend("torch", precision) for precision in ("fp32", "bf16")),
        "cuda": tuple(Backend("torch", precision) for precision in ("tf32", "fp16", "bf16", "fp32")),
    },
}


def candidates(engine: str, device: str, precision: str = "auto", compiled: bool = False) -> tuple[Backend, ...]:
    """The ways that the options leave, the most exact first; EngineError when they do not fit together.

    `precision` is `auto`, the first one's; `fastest`, all of them, with `engine` auto on a GPU of every engine that is
    installed; or a precision. Imports no engine: a server asks this before it starts its workers.
    """
    kind, is_fastest = device.partition(":")[0], precision == "fastest"
    name = AUTO if engine == "auto" else engine
    _check(name, kind, device, compiled and not (is_fastest and kind == "cuda" and engine == "auto"))
    if engine == "auto" and is_fastest and kind == "cuda":
        engines = [AUTO, *filter(_is_installed, ("tensorrt", "torch"))]
    else:
        engines = [name]
    ways = [way for each in engines for way in _with_compiled(_WAYS[each][kind], compiled, is_fastest)]
    if is_fastest:
        return tuple(way for way in ways if kind == "cpu" or way.precision != "fp32")
    wanted = ways[0].precision if precision == "auto" else precision
    if found := tuple(way for way in ways if way.precision == wanted):
        return found
    choices = " or ".join(dict.fromkeys(way.precision for way in ways))
    raise EngineError(f"engine {name} on {kind} does not compute in {precision}; choose {choices}")


def candidates_for(
    artifact: Artifact, engine: str, device: str, precision: str = "auto", compiled: bool = False
) -> tuple[Backend, ...]:
    """Those of `candidates` for which the model has what they run; EngineError if there is none.

    A graph in fp32 may be computed in less; any other is computed as it is.
    """
    ways = candidates(engine, device, "auto" if precision == "int8" else precision, compiled)
    own = artifact.metadata.precision
    if own != "fp32":
        return (_as_it_is(artifact, ways[0].engine, device, precision),)
    if precision == "int8" and artifact.int8 is None:
        raise EngineError(
            f"{artifact.name}/{artifact.version} has no {INT8_FILE}; make a version that has it with `resnet-train "
            "quantize --beside`, or choose --precision fastest or auto"
        )
    if precision == "int8":
        return candidates(engine, device, precision, compiled)
    lacks_weights = artifact.weights is None and any(way.engine != "torch" for way in ways)
    return tuple(
        way
        for way in ways
        if not (way.precision == "int8" and artifact.int8 is None) and not (way.engine == "torch" and lacks_weights)
    )


def _as_it_is(artifact: Artifact, engine: str, device: str, precision: str) -> Backend:
    own = artifact.metadata.precision
    if engine == "torch" or precision not in ("auto", "fastest", own):
        raise EngineError(f"{artifact.name} is a graph in {own}; run it with --engine onnxruntime --precision auto")
    if own == "int8" and device != "cpu":
        raise EngineError(
            f"{artifact.name} is a graph in int8, for which ONNX Runtime has no convolutions on a GPU, and TensorRT "
            "takes none with zero points: it would be slower than in fp32; serve the model in fp32, or choose "
            "--device cpu"
        )
    return Backend(engine, own)


def _check(engine: str, kind: str, device: str, compiled: bool) -> None:
    """EngineError if there is no such engine, not on this device, or it has no compiler."""
    if engine not in _WAYS:
        raise EngineError(f"unknown engine {engine!r}; choose auto, {', '.join(_WAYS)}")
    if kind not in _WAYS[engine]:
        possible = " or ".join(_WAYS[engine])
        raise EngineError(f"engine {engine} does not run on device {device}, only on {possible}; choose another engine")
    if compiled and engine != "torch":
        raise EngineError(f"--compile is for --engine torch; {engine} optimises its graph in any case")
    if engine == "torch" and not _is_installed("torch"):
        raise EngineError("engine torch needs torch and safetensors: pip install 'resnet-serve[torch]'")


def _is_installed(engine: str) -> bool:
    if engine == "tensorrt":
        return bool(find_library("nvinfer") or find_spec("tensorrt"))
    return bool(find_spec("torch") and find_spec("safetensors"))


def _with_compiled(ways: tuple[Backend, ...], compiled: bool, is_fastest: bool) -> tuple[Backend, ...]:
    """PyTorch's ways compiled if that is asked for; beside those that are not, where the fastest is looked for."""
    if not compiled or ways[0].engine != "torch":
        return ways
    twins = tuple(replace(way, compiled=True) for way in ways)
    return (*ways, *twins) if is_fastest else twins
