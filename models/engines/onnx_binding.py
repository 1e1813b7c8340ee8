"""An ONNX Runtime session whose inputs and outputs have fixed places in a device's memory."""

import threading

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from models.engines.padding import pad


class BoundSession:
    """Runs batches padded to few sizes, each size in buffers that stay where they are on the device.

    `device` and `number` are ONNX Runtime's, `cuda` and 0 say; `shape` is the largest batch's, [largest, h, w, c].
    """

    def __init__(self, session: ort.InferenceSession, device: str, number: int, shape: tuple[int, ...]) -> None:
        self._session, self._device, self._number = session, device, number
        self._host = np.zeros(shape, np.uint8)
        self._bindings: dict[int, tuple[ort.OrtValue, ort.IOBinding]] = {}
        self._lock = threading.Lock()

    def run(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Logits [n, classes] of images [n, h, w, c]; one caller at a time, the others wait."""
        with self._lock:
            batch = pad(images, self._host)
            pixels, binding = self._binding(len(batch))
            pixels.update_inplace(batch)
            self._session.run_with_iobinding(binding)
            logits: NDArray[np.float32] = binding.copy_outputs_to_cpu()[0]
        return logits[: len(images)]

    def _binding(self, size: int) -> tuple[ort.OrtValue, ort.IOBinding]:
        """The input's place for batches of this size, and the binding that names it."""
        if size not in self._bindings:
            shape = [size, *self._host.shape[1:]]
            pixels = ort.OrtValue.ortvalue_from_shape_and_type(shape, np.uint8, self._device, self._number)
            binding = self._session.io_binding()
            binding.bind_ortvalue_input("image", pixels)
            binding.bind_output("logits", self._device, self._number)
            self._bindings[size] = pixels, binding
        return self._bindings[size]
