"""LitServe as its documentation has it: decode_request, batch, predict, unbatch, encode_response; images as multipart.

python -m benchmarks.serving.peers.stock_litserve --port 8000 [--workers 2] [--api-servers 2] [--wait-ms 2]
"""

import litserve as ls
import numpy as np
from numpy.typing import NDArray

from benchmarks.serving.peers.classify import Class, Classifier
from benchmarks.serving.peers.litserve_command import serve

Pixels = NDArray[np.uint8]


class LitServeClassifier(ls.LitAPI):  # type: ignore[misc]
    """One image in the form field `image`; its best classes as JSON."""

    def setup(self, device: str) -> None:
        """Load the model, in the worker."""
        del device  # "cpu"
        self.classifier = Classifier()

    # These two without annotations, as in the documentation: LitServe would make FastAPI validate by them.
    def decode_request(self, request):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN201
        """Decode the form field."""
        return self.classifier.pixels(request["image"].file)

    def batch(self, inputs: list[Pixels]) -> Pixels:
        """Make one array of a batch."""
        return np.stack(inputs)

    def predict(self, x: Pixels) -> list[list[Class]]:
        """Classify a batch."""
        return self.classifier.run(x)

    def unbatch(self, output: list[list[Class]]) -> list[list[Class]]:
        """Leave the answers apart."""
        return output

    def encode_response(self, output):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN201
        """Make the JSON document."""
        return {"predictions": output}


if __name__ == "__main__":
    serve(lambda wait_s: LitServeClassifier(max_batch_size=32, batch_timeout=wait_s), "cpu", 2.0)
