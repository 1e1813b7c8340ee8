"""The ONNX Runtime engine: on a CPU, or on an NVIDIA GPU through CUDA or TensorRT."""

from collections.abc import Callable

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from models.artifact.artifact import Artifact
from models.engines.backend import AUTO, Backend
from models.engines.engine import EngineError, checked
from models.engines.half_graph import to_fp16
from models.engines.onnx_binding import BoundSession
from models.engines.onnx_session import make_gpu_session, make_session
from models.engines.page_lock import page_locked


class OnnxEngine:
    """Runs the bytes of an artifact's `model.onnx`; on a GPU the whole graph, or it is an EngineError.

    `threads` share one `run` on a CPU; batches on a GPU are padded, and have at most `max_batch` images.
    """

    def __init__(self, artifact: Artifact, backend: Backend, *, device: str, threads: int, max_batch: int) -> None:
        self.name, self.library = backend.engine, f"onnxruntime {ort.__version__}"
        self.device, self.precision = device, str(backend.precision)
        self._classes = artifact.classes
        self._infer: Callable[[NDArray[np.uint8]], NDArray[np.float32]]
        graph, is_fp32 = artifact.model, artifact.metadata.precision == "fp32"
        if backend.engine == AUTO and backend.precision == "fp16" and is_fp32:  # TensorRT makes its own
            graph = to_fp16(graph)
        if device == "cpu":
            session = make_session(artifact.name, graph, threads)
            self._infer = lambda images: session.run(None, {"image": images})[0]
        else:
            number, shape = device.partition(":")[2] or "0", (max_batch, *artifact.input_shape)
            self.device = f"cuda:{number}"
            session = make_gpu_session(artifact.name, graph, threads, backend, number, shape)
            self._infer = BoundSession(session, "cuda", int(number), page_locked(shape), self._classes).run

    def run(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Logits [n, classes] of images [n, height, width, channels]; EngineError when it fails."""
        try:
            logits = self._infer(images)
        except Exception as error:  # ONNX Runtime's errors have no common base below Exception
            raise EngineError(f"ONNX Runtime failed on a batch of {images.shape}: {error}") from error
        return checked(logits, len(images), self._classes)
