"""How an engine is made for a model."""

import os

from models.artifact.artifact import Artifact
from models.engines.backend import Backend
from models.engines.engine import Engine

MAX_BATCH = 64
"""Images; the largest batch that an engine on a GPU prepares for unless it is told otherwise."""


def load_engine(
    artifact: Artifact,
    backend: Backend | None = None,
    *,
    device: str = "cpu",
    threads: int = 1,
    max_batch: int = MAX_BATCH,
) -> Engine:
    """Make the engine that was asked for, without a `backend` ONNX Runtime; EngineError if it cannot be had here.

    `device` is `cpu` or `cuda[:N]`; `threads` share one `run` on a CPU; a GPU prepares for batches of up to `max_batch`
    images and refuses more.
    """
    backend = backend or Backend(precision=artifact.metadata.precision)
    artifact = artifact.run_in(backend.precision)
    # An engine's library is imported only when chosen.
    if backend.engine == "torch":
        # OpenMP reads it when torch loads: a thread that spins while it waits takes the core that others need.
        os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
        from models.engines.torch_engine import TorchEngine

        return TorchEngine(artifact, backend, device=device, threads=threads, max_batch=max_batch)
    from models.engines.onnx_engine import OnnxEngine

    return OnnxEngine(artifact, backend, device=device, threads=threads, max_batch=max_batch)
