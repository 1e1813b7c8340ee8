"""An inference request of the Open Inference Protocol: one tensor of pixels, or of encoded images.

https://github.com/kserve/open-inference-protocol, with the binary data and classification extensions of
https://github.com/triton-inference-server/server/tree/main/docs/protocol.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, NamedTuple

from pydantic import BaseModel, BeforeValidator, Field, ValidationError

from models.validation import explain
from service.errors import BadRequest, ServiceError
from service.parsing.head import Head
from service.parsing.payload import Payload, Source, too_many_images
from service.parsing.sparse_json import MOST_SHORT_BYTES, SparseDocument, read_sparse
from service.parsing.tensor_data import read_elements, read_numbers, read_strings

INPUT, OUTPUT = "image", "logits"
"""The tensors' names, as in every released model."""
PIXELS, ENCODED, LOGITS, CLASSES = "UINT8", "BYTES", "FP32", "BYTES"
"""The data types of the input, either of two, and of the output, as it is or as classes."""

Shape = tuple[int, int, int]
"""Height, width and channels of a model's images."""
_Size = Annotated[int, Field(ge=0, lt=1 << 63)]


def _are_sizes(shape: object) -> object:
    if not isinstance(shape, list) or not all(type(size) is int and 0 <= size < 1 << 63 for size in shape):
        raise ValueError("must be an array of whole numbers from 0 to 2^63 - 1")
    return shape


class _TensorParameters(BaseModel, strict=True):
    binary_data_size: _Size | None = None
    binary_data: bool | None = None
    classification: _Size = 0
    shared_memory_region: object = None


_Parameters = Annotated[_TensorParameters, BeforeValidator(lambda given: {} if given is None else given)]
"""Null is none: Go writes so a map that is not there."""


class _Output(BaseModel, strict=True):
    name: str
    parameters: _Parameters = _TensorParameters()


class _Input(_Output):
    datatype: str
    shape: Annotated[list[int], BeforeValidator(_are_sizes)]
    data: Any = None


class _RequestParameters(BaseModel, strict=True):
    binary_data_output: bool = False
    timeout: _Size = 0  # microseconds


class _Request(BaseModel, strict=True):
    id: str = ""
    parameters: _RequestParameters = _RequestParameters()
    inputs: list[_Input] = Field(min_length=1, max_length=1)
    outputs: list[_Output] = Field([], max_length=2)  # the same logits as numbers and as classes


class OutputTensor(NamedTuple):
    """How the logits are asked for: as numbers, or as the most probable `classes` if that is not 0."""

    is_binary: bool
    classes: int = 0


@dataclass(slots=True)
class InferencePayload(Payload):
    """The images of an inference request, encoded or pixels, and what its response has to be like.

    Attributes:
        id: the client's name for the request, empty if it gave none.
        timeout_ns: how long the client waits; 0 if it does not say.
        accepted_codings: of the response.

    """

    id: str = ""
    timeout_ns: int = 0
    outputs: Sequence[OutputTensor] = ()
    accepted_codings: frozenset[str] = frozenset()


def read_inference(head: Head, body: bytes, shape: Shape, max_images: int) -> InferencePayload:
    """What an inference request asks of a model whose images are of this shape; BadRequest, or TooLarge.

    A header length of 0 means that the body is nothing but the pixels of one image.
    """
    payload = InferencePayload(max_images, accepted_codings=head.accepted_codings)
    length = head.inference_header_length
    if length == 0 and head.is_json:
        raise BadRequest("Inference-Header-Content-Length is 0, so the body has no JSON, and its Content-Type is JSON")
    if length == 0:
        payload.outputs = [OutputTensor(is_binary=True)]
        _add_images(payload, _Input(name=INPUT, datatype=PIXELS, shape=[1, *shape]), shape, body)
        return payload
    if length is not None and length > len(body):
        raise BadRequest(f"Inference-Header-Content-Length is {length}, and the whole body has {len(body)} bytes")
    sparse = read_sparse(body[:length], max_images)
    try:
        request = _Request.model_validate(sparse.value)
    except ValidationError as error:
        raise BadRequest(f"the inference request is not as the protocol has it: {explain(error, 'request')}") from error
    if request.id in sparse.texts:
        raise BadRequest(f"the id of the request has more than {MOST_SHORT_BYTES} bytes with its quotation marks")
    (tensor,) = request.inputs
    payload.id, payload.timeout_ns = request.id, request.parameters.timeout * 1000
    payload.outputs = _outputs(request)
    data = _binary(tensor, body, length)
    _add_images(payload, tensor, shape, sparse if data is None else data)
    return payload


def _outputs(request: _Request) -> list[OutputTensor]:
    default = request.parameters.binary_data_output
    for output in request.outputs:
        if output.name != OUTPUT:
            raise BadRequest(f"there is no output {output.name[:40]!r}; the only one is {OUTPUT!r}")
        _refuse_shared_memory(output)
    asked = [output.parameters for output in request.outputs] or [_TensorParameters()]
    return [OutputTensor(default if one.binary_data is None else one.binary_data, one.classification) for one in asked]


def _refuse_shared_memory(tensor: _Output) -> None:
    if tensor.parameters.shared_memory_region is not None:
        raise BadRequest("shared memory between client and server is not supported; send the data in the request")


def _binary(tensor: _Input, body: bytes, header_length: int | None) -> bytes | None:
    """The tensor's data behind the JSON, None if it is in the JSON."""
    _refuse_shared_memory(tensor)
    size, rest = tensor.parameters.binary_data_size, body[len(body) if header_length is None else header_length :]
    if size is None and tensor.data is None:
        raise BadRequest(f"input {tensor.name[:40]!r} has no data: give `data`, or `binary_data_size`")
    if size is not None and tensor.data is not None:
        raise BadRequest(f"input {tensor.name[:40]!r} has both `data` and `binary_data_size`: give one of them")
    if (size or 0) != len(rest):
        raise BadRequest(f"the body has {len(rest)} bytes behind its JSON, and binary_data_size tells of {size or 0}")
    return None if size is None else rest


def _add_images(payload: InferencePayload, tensor: _Input, shape: Shape, data: bytes | SparseDocument) -> None:
    """Take the images from binary data, or from the document that the tensor is part of."""
    if tensor.name != INPUT:
        raise BadRequest(f"there is no input {tensor.name[:40]!r}; the only one is {INPUT!r}")
    if tensor.datatype == PIXELS:
        payload.are_pixels = True
        n, size = _count(tensor.shape, [*shape], payload.max_images), math.prod(shape)
        pixels = data if isinstance(data, bytes) else read_numbers(data.text_of(tensor.data), n * size)
        _check_count(len(pixels), n * size)
        for i in range(n):
            payload.add(pixels[i * size : (i + 1) * size], _source(i))
    elif tensor.datatype == ENCODED:
        n = _count(tensor.shape, tensor.shape[1:] and [1], payload.max_images)
        images = read_elements(data, n) if isinstance(data, bytes) else read_strings(tensor.data, data)
        _check_count(len(images), n)
        for i, image in enumerate(images):
            error = image if isinstance(image, ServiceError) else None
            payload.add(b"" if isinstance(image, ServiceError) else image, _source(i)._replace(error=error))
    else:
        raise BadRequest(
            f"input {INPUT!r} has the datatype {tensor.datatype[:40]!r}; send pixels as {PIXELS}, or encoded images as "
            f"{ENCODED}"
        )


def _source(i: int) -> Source:
    return Source(f"{INPUT}[{i}]")


def _count(found: list[int], image: list[int], max_images: int) -> int:
    """How many images a tensor of this shape holds, if each of them has the shape that is needed."""
    if found[1:] != image or not any(found[:1]):
        needed = ", ".join(map(str, ("n", *image)))
        raise BadRequest(f"input {INPUT!r} has the shape {found[:8]}; it must be [{needed}], with one image or more")
    if found[0] > max_images:
        raise too_many_images(max_images)
    return found[0]


def _check_count(found: int, needed: int) -> None:
    if found != needed:
        raise BadRequest(f"input {INPUT!r} has {found} elements, and by its shape {needed}")
