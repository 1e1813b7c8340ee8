"""The elements of one tensor: numbers of UINT8 or strings of BYTES, in JSON or behind it."""

import struct
from collections.abc import Sequence

import numpy as np
import orjson

from service.errors import BadRequest, ServiceError
from service.parsing.json_document import from_base64_string
from service.parsing.sparse_json import SparseDocument
from service.parsing.transfer_encoding import BLANKS
from service.policy import BODY_PIECE_BYTES

_BRACKETS_TO_BLANKS = bytes.maketrans(b"[]", b"  ")
_LENGTH = struct.Struct("<I")  # before each element of BYTES


def read_numbers(text: bytes, count: int) -> bytes:
    """UINT8 in a JSON array, nested or flat, in pieces of bounded cost; BadRequest if it is none, or longer."""
    if not text.startswith(b"["):
        raise BadRequest("the data of the tensor must be an array")
    digits, parts, found, start = text.translate(_BRACKETS_TO_BLANKS).strip(BLANKS), [], 0, 0
    while start < len(digits):
        end = start + BODY_PIECE_BYTES
        end = len(digits) if end >= len(digits) else digits.rfind(b",", start, end)
        parts.append(_to_bytes(digits[start:end] if end > start else b""))
        found += len(parts[-1])
        if found > count:
            raise _too_many(count)
        start = end + 1
    return b"".join(parts)


def _too_many(count: int) -> BadRequest:
    return BadRequest(f"the data of the tensor has more than the {count} elements of its shape")


def _to_bytes(numbers: bytes) -> bytes:
    try:
        values = np.array(orjson.loads(b"[%s]" % numbers))
    except ValueError as error:
        raise BadRequest("the data of the tensor must be an array of numbers, nested or flat") from error
    is_whole = values.ndim == 1 and values.dtype.kind in "iu" and b"e" not in numbers  # numpy takes true for 1
    if not is_whole or values.min() < 0 or values.max() > 255:
        raise BadRequest("the data of the tensor must be whole numbers from 0 to 255")
    return values.astype(np.uint8).tobytes()


def read_elements(data: bytes, count: int) -> list[bytes]:
    """BYTES, each behind its length (uint32, little-endian); BadRequest if the last is cut off, or there are more."""
    elements: list[bytes] = []
    at = 0
    while at < len(data):
        if len(elements) == count:
            raise _too_many(count)
        start = at + _LENGTH.size
        at = start + (_LENGTH.unpack_from(data, at)[0] if start <= len(data) else 0)
        if at > len(data):
            raise BadRequest(f"the data of the tensor ends within element {len(elements)}")
        elements.append(data[start:at])
    return elements


def read_strings(values: object, document: SparseDocument) -> Sequence[bytes | ServiceError]:
    """BYTES as base64 in a JSON array, flat or of arrays of one; an element that is not base64 has its own error."""
    if not isinstance(values, list):
        raise BadRequest("the data of the tensor must be an array of strings: in JSON encoded images are base64")
    return [_read_string(value, document) for value in values]


def _read_string(value: object, document: SparseDocument) -> bytes | ServiceError:
    if isinstance(value, list) and len(value) == 1:
        (value,) = value
    if not isinstance(value, str):
        return BadRequest("it is no string: in JSON encoded images are base64")
    try:
        return from_base64_string(document.text_of(value))
    except ServiceError as error:
        return error
