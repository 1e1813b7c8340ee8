"""The response to an inference request of the Open Inference Protocol: logits, or classes, as JSON or binary."""

import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from models.postprocess import most_probable
from service.batching.image_task import Outcome, Result
from service.parsing.inference import CLASSES, LOGITS, OUTPUT, InferencePayload, OutputTensor
from service.parsing.payload import Payload
from service.policy import COMPRESSED_FROM_BYTES, COMPRESSED_UP_TO_BYTES
from service.prediction.response import JSON, Response

BINARY = "application/octet-stream"
_WINDOW_BITS = {"gzip": 16 + zlib.MAX_WBITS, "deflate": zlib.MAX_WBITS}  # in order of preference


@dataclass(slots=True)
class InferenceResponse(Response):
    """What goes back to an inference request; an error is told in one sentence, and fails all of the request."""

    def fail(self, error: Exception) -> None:
        """Fill in an error."""
        Response.fail(self, error)
        assert self.problem is not None
        self.headers["content-type"] = JSON
        self.body = orjson.dumps({"error": self.problem["detail"]})

    def succeed(self, outcomes: Sequence[Outcome], labels: Sequence[str], payload: Payload | None = None) -> None:
        """Fill in what was found in each image, in the form that the request asks for."""
        assert isinstance(payload, InferencePayload)
        results = [outcome for outcome in outcomes if isinstance(outcome, Result)]
        self.tops = [(labels[result.indices[0]], result.probabilities[0]) for result in results]
        self.batch_size = max(result.batch_size for result in results)
        logits = np.stack([result.logits for result in results if result.logits is not None])[:, : len(labels)]
        document: dict[str, Any] = {"model_name": self.model, "model_version": self.version}
        if payload.id:
            document["id"] = payload.id
        rendered = [_render(output, logits, labels) for output in payload.outputs]
        document["outputs"] = [tensor for tensor, _ in rendered]
        binary = [data for _, data in rendered if data is not None]
        header = orjson.dumps(document, option=orjson.OPT_SERIALIZE_NUMPY)
        self.headers["content-type"] = BINARY if binary else JSON
        if binary:
            self.headers["inference-header-content-length"] = str(len(header))
        self.note_timings()
        self.body = b"".join([header, *binary])
        self._compress(payload.accepted_codings)

    def _compress(self, accepted: frozenset[str]) -> None:
        """Compress the body if the client takes that, and it is neither tiny nor would keep others waiting."""
        coding = next((one for one in _WINDOW_BITS if one in accepted), None)
        if coding and COMPRESSED_FROM_BYTES <= len(self.body) <= COMPRESSED_UP_TO_BYTES:
            self.body = zlib.compress(self.body, level=1, wbits=_WINDOW_BITS[coding])
            self.headers["content-encoding"] = coding
        self.headers["vary"] = "accept-encoding"


def _render(
    output: OutputTensor, logits: NDArray[np.float32], labels: Sequence[str]
) -> tuple[dict[str, Any], bytes | None]:
    """One tensor of the response as its JSON has it, and its data if that comes behind the JSON."""
    tensor: dict[str, Any] = {"name": OUTPUT}
    if output.classes:
        classes = _rank(logits, labels, min(output.classes, len(labels)))
        tensor |= {"datatype": CLASSES, "shape": [len(logits), len(classes) // len(logits)]}
        data = [text.encode() for text in classes]
        binary = b"".join([struct.pack("<I", len(text)) + text for text in data]) if output.is_binary else None
        values: object = classes
    else:
        tensor |= {"datatype": LOGITS, "shape": list(logits.shape)}
        binary, values = logits.tobytes() if output.is_binary else None, logits.ravel()
    if binary is None:
        return tensor | {"data": values}, None
    return tensor | {"parameters": {"binary_data_size": len(binary)}}, binary


def _rank(logits: NDArray[np.float32], labels: Sequence[str], k: int) -> list[str]:
    """The k classes with the largest logits of each row, as `logit:index:label`."""
    return [
        f"{row[index]:f}:{index}:{labels[index]}"
        for row, ranked in zip(logits, most_probable(logits, k), strict=True)
        for index in ranked
    ]
