"""The encoded images that a request's body holds: a multipart form, JSON, or the image itself."""

import binascii
from base64 import b64decode
from typing import TYPE_CHECKING, NamedTuple

import orjson
from python_multipart.exceptions import MultipartParseError
from python_multipart.multipart import MultipartParser, parse_options_header

from service.errors import BadRequest, TooLarge
from service.prediction.head import Head

if TYPE_CHECKING:
    from python_multipart.multipart import MultipartCallbacks


FORM, JSON = b"multipart/form-data", b"application/json"
STRUCTURED_TYPES = frozenset({FORM, JSON})


class Payload(NamedTuple):
    """Encoded images, and whether the client asked for a list of answers."""

    images: list[bytes]
    several: bool


def parse(head: Head, body: bytes, max_images: int) -> Payload:
    """The images in a body; BadRequest if it is malformed, TooLarge if there are more than `max_images`.

    A body of a type that is not in STRUCTURED_TYPES is the image itself: curl's --data-binary and -T send any type.
    """
    if head.media_type == FORM:
        payload = _from_form(head.content_type, body)
    elif head.media_type == JSON:
        payload = _from_json(body)
    else:
        payload = Payload([body], several=False)
    if not payload.images or not all(payload.images):
        raise BadRequest(
            "no image in the request, or an empty one: send its bytes, a form with a file, or base64 in JSON"
        )
    if len(payload.images) > max_images:
        raise TooLarge(f"{len(payload.images)} images in one request; at most {max_images} are taken")
    return payload


def _from_json(body: bytes) -> Payload:
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise BadRequest(f"the body is not JSON: {error}") from error
    match document:
        case {"image": str(image), **rest} if not rest:
            return Payload([_from_base64(image)], several=False)
        case {"images": [*images], **rest} if not rest and all(isinstance(image, str) for image in images):
            return Payload([_from_base64(image) for image in images], several=True)
    raise BadRequest('the JSON must be {"image": "<base64>"} or {"images": ["<base64>", ...]}')


def _from_base64(text: str) -> bytes:
    try:
        return b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise BadRequest(f"an image is not base64: {error}") from error


def _from_form(content_type: bytes, body: bytes) -> Payload:
    boundary = parse_options_header(content_type)[1].get(b"boundary")
    if not boundary:
        raise BadRequest("the multipart Content-Type names no boundary")
    form = _Form()
    try:
        parser = MultipartParser(boundary, form.callbacks)
        parser.write(body)
        parser.finalize()
    except MultipartParseError as error:
        raise BadRequest(f"the form is malformed: {error}") from error
    if not form.complete:
        raise BadRequest("the form ends before its last boundary")
    return Payload(form.files, several=len(form.files) > 1)


class _Form:
    """Collects the files of a form; other fields are passed over."""

    def __init__(self) -> None:
        self.files: list[bytes] = []
        self.complete = False
        self._field = self._value = b""
        self._is_file = False
        self._parts: list[bytes] = []
        self.callbacks: MultipartCallbacks = {
            "on_part_begin": self._begin,
            "on_header_field": self._on_field,
            "on_header_value": self._on_value,
            "on_header_end": self._end_header,
            "on_part_data": self._on_data,
            "on_part_end": self._end,
            "on_end": self._finish,
        }

    def _begin(self) -> None:
        self._is_file, self._parts = False, []

    def _on_field(self, data: bytes, start: int, end: int) -> None:
        self._field += data[start:end]

    def _on_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _end_header(self) -> None:
        if self._field.lower() == b"content-disposition":
            self._is_file = b"filename" in parse_options_header(self._value)[1]
        self._field = self._value = b""

    def _on_data(self, data: bytes, start: int, end: int) -> None:
        if self._is_file:
            self._parts.append(data[start:end])

    def _end(self) -> None:
        if self._is_file:
            self.files.append(b"".join(self._parts))

    def _finish(self) -> None:
        self.complete = True
