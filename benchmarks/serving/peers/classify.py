"""What the peers' user code shares: Pillow, ONNX Runtime with one thread, the best classes.

What to serve comes from the environment: PEER_MODEL is a `model.onnx`, PEER_LABELS its labels as JSON, PEER_TOP_K how
many classes an answer has. The model is the one that our own server runs, byte for byte.
"""

import json
import os
from typing import BinaryIO, TypedDict

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray
from PIL import Image

RESIZE = 256  # shorter side of a photograph before the crop to the network's input


class Class(TypedDict):
    """One of an answer's best classes."""

    label: str
    probability: float


class Classifier:
    """Encoded images to pixels, pixels to classes."""

    def __init__(self) -> None:
        options = ort.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        self._session = ort.InferenceSession(os.environ["PEER_MODEL"], options, ["CPUExecutionProvider"])
        _, self._height, self._width, self._channels = self._session.get_inputs()[0].shape
        self._labels: list[str] = json.loads(os.environ["PEER_LABELS"])
        self._top_k = int(os.environ["PEER_TOP_K"])

    def pixels(self, image: BinaryIO) -> NDArray[np.uint8]:
        """Pixels [height, width, channels], as torchvision's Resize and CenterCrop would give them."""
        picture = Image.open(image).convert("L" if self._channels == 1 else "RGB")
        if picture.size != (self._width, self._height):
            picture = self._resize_and_crop(picture)
        return np.asarray(picture).reshape(self._height, self._width, self._channels)

    def _resize_and_crop(self, picture: Image.Image) -> Image.Image:
        scale = RESIZE / min(picture.size)
        width, height = int(picture.width * scale), int(picture.height * scale)
        left, top = (width - self._width) // 2, (height - self._height) // 2
        resized = picture.resize((width, height), Image.Resampling.BILINEAR)
        return resized.crop((left, top, left + self._width, top + self._height))

    def run(self, pixels: NDArray[np.uint8]) -> list[list[Class]]:
        """The best classes of each image of [n, height, width, channels]."""
        logits = self._session.run(["logits"], {"image": pixels})[0]
        exp = np.exp(logits - logits.max(axis=1, keepdims=True))
        probabilities = exp / exp.sum(axis=1, keepdims=True)
        best = np.argsort(-logits, axis=1)[:, : self._top_k]
        return [
            [{"label": self._labels[i], "probability": float(row[i])} for i in indices]
            for row, indices in zip(probabilities, best, strict=True)
        ]
