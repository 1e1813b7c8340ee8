"""Which engines there are, what each can do, and how one is made."""

import os
from importlib.util import find_spec

from models.artifact.artifact import Artifact
from models.engines.engine import Engine, EngineError

AUTO = "onnxruntime"
AUTO_REASON = "it runs these networks faster than PyTorch on a CPU, starts sooner, and needs no torch"

MAX_BATCH = 64
"""Images; the largest batch that an engine on a GPU prepares for unless it is told otherwise."""

# What each engine can compute a graph in fp32 in, by kind of device; `auto` means the first.
_PRECISIONS: dict[str, dict[str, tuple[str, ...]]] = {
    "onnxruntime": {"cpu": ("fp32",), "cuda": ("tf32", "fp32")},
    "tensorrt": {"cuda": ("tf32", "fp16", "bf16")},
    # Not fp16 on a CPU: convolutions in it take six to thirty times as long as in fp32.
    "torch": {"cpu": ("fp32", "bf16"), "cuda": ("tf32", "fp32", "fp16", "bf16")},
}


def resolve_precision(engine: str, device: str, precision: str = "auto", compiled: bool = False) -> str:
    """The precision to compute in; EngineError when the choices do not fit together or a library is missing.

    Imports no engine: a server asks this before it starts its workers.
    """
    engine, kind = AUTO if engine == "auto" else engine, device.partition(":")[0]
    if engine not in _PRECISIONS:
        raise EngineError(f"unknown engine {engine!r}; choose auto, {', '.join(_PRECISIONS)}")
    if kind not in _PRECISIONS[engine]:
        possible = " or ".join(_PRECISIONS[engine])
        raise EngineError(f"engine {engine} does not run on device {device}, only on {possible}; choose another engine")
    if compiled and engine != "torch":
        raise EngineError(f"--compile is for --engine torch; {engine} optimises its graph in any case")
    if engine == "torch" and not (find_spec("torch") and find_spec("safetensors")):
        raise EngineError("engine torch needs torch and safetensors: pip install 'resnet-serve[torch]'")
    choices = _PRECISIONS[engine][kind]
    if precision not in ("auto", *choices):
        raise EngineError(f"engine {engine} on {kind} does not compute in {precision}; choose {' or '.join(choices)}")
    return choices[0] if precision == "auto" else precision


def load_engine(
    artifact: Artifact,
    *,
    engine: str = "auto",
    device: str = "cpu",
    threads: int = 1,
    precision: str = "auto",
    compiled: bool = False,
    max_batch: int = MAX_BATCH,
) -> Engine:
    """Make the engine that was asked for; EngineError when this machine has no such engine or device.

    `device` is `cpu` or `cuda[:N]`; `threads` share one `run` on a CPU; `compiled` is PyTorch's compiler; a GPU
    prepares for batches of up to `max_batch` images and refuses more.
    """
    precision = _precision_of(artifact, engine, device, precision, compiled)
    # An engine's library is imported only when chosen.
    if engine == "torch":
        # OpenMP reads it when torch loads: a thread that spins while it waits takes the core that others need.
        os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
        from models.engines.torch_engine import TorchEngine

        return TorchEngine(
            artifact, device=device, threads=threads, precision=precision, compiled=compiled, max_batch=max_batch
        )
    from models.engines.onnx_engine import OnnxEngine

    tensorrt = engine == "tensorrt"
    return OnnxEngine(
        artifact, device=device, threads=threads, precision=precision, tensorrt=tensorrt, max_batch=max_batch
    )


def _precision_of(artifact: Artifact, engine: str, device: str, wanted: str, compiled: bool) -> str:
    """A graph in fp32 may be computed in less; any other is computed as it is."""
    own = artifact.metadata.precision
    if own == "fp32":
        return resolve_precision(engine, device, wanted, compiled)
    resolve_precision(engine, device, compiled=compiled)
    if engine == "torch" or wanted not in ("auto", own):
        raise EngineError(f"{artifact.name} is a graph in {own}; run it with --engine onnxruntime --precision auto")
    return own
