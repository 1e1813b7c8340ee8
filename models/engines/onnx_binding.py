"""An ONNX Runtime session whose inputs and outputs have fixed places in a device's memory."""

import threading
from typing import NamedTuple

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from models.engines.padding import pad


class _Binding(NamedTuple):
    """The places of a batch's pixels and logits, and what a run of that size is given."""

    pixels: ort.OrtValue
    logits: ort.OrtValue
    io: ort.IOBinding
    options: ort.RunOptions


class BoundSession:
    """Runs batches padded to few sizes, each size in buffers that stay where they are on the device.

    `device` and `number` are ONNX Runtime's, `cuda` and 0 say; `host` is memory for the largest batch, uint8
    [largest, h, w, c], which the device reads from. Each size has a CUDA graph of its own, if the session records them.
    """

    def __init__(
        self, session: ort.InferenceSession, device: str, number: int, host: NDArray[np.uint8], classes: int
    ) -> None:
        self._session, self._device, self._number = session, device, number
        self._host, self._classes = host, classes
        self._bindings: dict[int, _Binding] = {}
        self._lock = threading.Lock()

    def run(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Logits [n, classes] of images [n, h, w, c]; one caller at a time, the others wait."""
        with self._lock:
            batch = pad(images, self._host)
            binding = self._binding(len(batch))
            binding.pixels.update_inplace(batch)
            self._session.run_with_iobinding(binding.io, binding.options)
            return np.array(binding.logits.numpy()[: len(images)])

    def _binding(self, size: int) -> _Binding:
        if size not in self._bindings:
            pixels = self._place([size, *self._host.shape[1:]], np.uint8)
            logits = self._place([size, self._classes], np.float32)
            io, options = self._session.io_binding(), ort.RunOptions()
            io.bind_ortvalue_input("image", pixels)
            io.bind_ortvalue_output("logits", logits)
            options.add_run_config_entry("gpu_graph_id", str(size))
            self._bindings[size] = _Binding(pixels, logits, io, options)
        return self._bindings[size]

    def _place(self, shape: list[int], dtype: type[np.generic]) -> ort.OrtValue:
        return ort.OrtValue.ortvalue_from_shape_and_type(shape, dtype, self._device, self._number)
