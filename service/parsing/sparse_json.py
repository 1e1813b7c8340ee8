"""A JSON document read without what is long in it, base64 and arrays of numbers, which stays as it was written."""

import re
from dataclasses import dataclass, field
from typing import Any

import orjson

from service.errors import BadRequest
from service.parsing.json_document import BYTE_ORDER_MARK
from service.parsing.transfer_encoding import BLANKS

MOST_SHORT_BYTES = 1024
"""Most bytes of a string with its quotation marks, or between two strings, that are read with the document."""
_MOST_BYTES = 64 << 10  # of a document without what is long
_MOST_STRINGS = 256  # beside those that are expected
_SHORT_STRING = re.compile(rb'(?:[^"\\]|\\.){0,%d}"' % MOST_SHORT_BYTES, re.DOTALL)


@dataclass(slots=True)
class SparseDocument:
    """A document whose long strings and arrays are each a string of its own, by which `texts` has what was written.

    Building the values of a hostile document of many megabytes would take twenty times its memory, and the interpreter.
    """

    value: Any = None
    texts: dict[str, bytes] = field(default_factory=dict)

    def text_of(self, value: object) -> bytes:
        """How a value was written, as far as that matters: an array as JSON, a string by its content."""
        if isinstance(value, str):
            return self.texts.get(value, value.encode())
        return orjson.dumps(value)


def read_sparse(document: bytes, most_strings: int) -> SparseDocument:
    """The document with at most about `most_strings` long strings in it; BadRequest if it is no such JSON."""
    sparse, kept, at = SparseDocument(), [], 0
    document = document.removeprefix(BYTE_ORDER_MARK)
    for _ in range(most_strings + _MOST_STRINGS):
        start = document.find(b'"', at)
        kept.append(_without_array(document[at : None if start < 0 else start], sparse.texts))
        if start < 0:
            sparse.value = _load(b"".join(kept))
            return sparse
        at = _string_end(document, start + 1)
        string = document[start:at]
        kept.append(_stand_in(string[1:-1], sparse.texts) if len(string) > MOST_SHORT_BYTES else string)
    raise BadRequest(f"the JSON of the request has more than {_MOST_STRINGS} strings beside its images")


def _without_array(between: bytes, texts: dict[str, bytes]) -> bytes:
    """What stands between two strings, without the array in it if it is long: that ends before the object does."""
    start = between.find(b"[") if len(between) > MOST_SHORT_BYTES else -1
    if start < 0:
        return between
    end = between.find(b"}", start)
    array = between[start : None if end < 0 else end].rstrip(BLANKS + b",")
    return between[:start] + _stand_in(array, texts) + between[start + len(array) :]


def _string_end(document: bytes, start: int) -> int:
    """Behind the quotation mark that ends a string; one that is long holds no escaped mark, for base64 does not."""
    end = document.find(b'"', start)
    if document[end - 1 : end] == b"\\":
        short = _SHORT_STRING.match(document, start)
        end = short.end() - 1 if short else -1
    if end < 0:
        raise BadRequest("the JSON of the request is malformed: a string does not end, or is too long")
    return end + 1


def _stand_in(text: bytes, texts: dict[str, bytes]) -> bytes:
    name = f"\0{len(texts)}"
    texts[name] = text
    return orjson.dumps(name)


def _load(document: bytes) -> object:
    if len(document) > _MOST_BYTES:
        raise BadRequest(f"the JSON of the request has more than {_MOST_BYTES} bytes beside the data of its tensor")
    try:
        return orjson.loads(document)
    except orjson.JSONDecodeError as error:
        raise BadRequest(f"the JSON of the request is malformed: {error.msg}") from error
