"""mosec as its documentation has it: one stage of two workers, raw image bodies, dynamic batches, a warm-up example.

PEER_BATCH=8 PEER_WAIT_MS=2 python -m benchmarks.serving.peers.mosec_app --address 127.0.0.1 --port 8000
"""

import os
from io import BytesIO

import numpy as np
from mosec import Server, Worker
from PIL import Image

from benchmarks.serving.peers.classify import Class, Classifier

WORKERS = 2


def blank_png() -> bytes:
    """An image to warm the workers with."""
    file = BytesIO()
    Image.new("L", (256, 256)).save(file, "PNG")
    return file.getvalue()


class MosecClassifier(Worker):
    """An image as the body; its best classes as JSON."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.classifier = Classifier()
        self.example = blank_png()

    def deserialize(self, data: bytes) -> bytes:
        """Take the body as it is."""
        return data

    def forward(self, data: list[bytes]) -> list[dict[str, list[Class]]]:
        """Classify a batch."""
        pixels = np.stack([self.classifier.pixels(BytesIO(image)) for image in data])
        return [{"predictions": classes} for classes in self.classifier.run(pixels)]


def main() -> None:
    """Serve."""
    server = Server()  # type: ignore[no-untyped-call]
    size, wait_ms = int(os.environ["PEER_BATCH"]), int(os.environ["PEER_WAIT_MS"])
    server.append_worker(MosecClassifier, num=WORKERS, max_batch_size=size, max_wait_time=wait_ms, timeout=60)
    server.run()  # type: ignore[no-untyped-call]


if __name__ == "__main__":
    main()
