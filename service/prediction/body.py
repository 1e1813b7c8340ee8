"""The encoded images that a request's body holds: a multipart form, JSON, or the image itself."""

import binascii
import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

import orjson
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, MultipartState, parse_options_header

from service.errors import BadRequest, TooLarge
from service.policy import BODY_PIECE_BYTES, FORM_FIELDS
from service.prediction.head import Head

if TYPE_CHECKING:
    from python_multipart.multipart import MultipartCallbacks


FORM, JSON = b"multipart/form-data", b"application/json"
STRUCTURED_TYPES = frozenset({FORM, JSON})

# A JSON document without its blanks and without its strings, in place of each of which one quotation mark stands.
_ONE_IMAGE, _SEVERAL_IMAGES, _MORE_IMAGES = b'{":"}', re.compile(rb'{":\["(,")*\]}'), re.compile(rb'{":\[(",)*')
_MOST_BLANKS = 1024  # in a row, between two strings of a JSON document or behind a boundary
_MOST_HEADER_BYTES = 2048  # of one field of a part; a file name of 255 bytes takes 765 where it is percent-encoded


class Payload(NamedTuple):
    """Encoded images, and whether the client asked for a list of answers."""

    images: list[bytes]
    several: bool


def parse(head: Head, body: bytes, max_images: int) -> Payload:
    """The images in a body; BadRequest if it is malformed, TooLarge if there are more than `max_images`.

    A body of a type that is not in STRUCTURED_TYPES is the image itself: curl's --data-binary and -T send any type.
    What a hostile body costs is bounded: nothing is read on behind one image too many, and no value is built of any
    document but the two that are taken.
    """
    if head.media_type == FORM:
        payload = _from_form(head.content_type, body, max_images)
    elif head.media_type == JSON:
        payload = _from_json(body, max_images)
    else:
        payload = Payload([body], several=False)
    if not payload.images or not all(payload.images):
        raise BadRequest(
            "no image in the request, or an empty one: send its bytes, a form with a file, or base64 in JSON"
        )
    return payload


def _too_many(max_images: int) -> TooLarge:
    return TooLarge(f"too many images in one request; at most {max_images} are taken")


def _pieces(data: bytes) -> Iterator[bytes]:
    """The data in pieces: between two of them the event loop may have the interpreter."""
    return (data[start : start + BODY_PIECE_BYTES] for start in range(0, len(data), BODY_PIECE_BYTES))


def _from_json(body: bytes, max_images: int) -> Payload:
    """The images of one of the two documents: quotation marks part it, for neither a name nor base64 holds any."""
    parts = body.split(b'"', 2 * (max_images + 2))
    strings, between = parts[1::2], parts[::2]
    if len(strings) == max_images + 2:  # its name and one image too many; what follows is not parted
        if strings[0] == b"images" and _MORE_IMAGES.fullmatch(_punctuation(between[:-1])):
            raise _too_many(max_images)
    elif strings:
        name, *images = strings
        punctuation = _punctuation(between)
        if name == b"image" and punctuation == _ONE_IMAGE:
            return Payload([_from_base64(images[0])], several=False)
        if name == b"images" and _SEVERAL_IMAGES.fullmatch(punctuation):
            return Payload([_from_base64(image) for image in images], several=True)
    raise BadRequest('the body must be JSON, {"image": "<base64>"} or {"images": ["<base64>", ...]}')


def _punctuation(between: list[bytes]) -> bytes:
    """What stands between the strings, without blanks."""
    if any(len(part) > _MOST_BLANKS for part in between):
        return b""
    return b'"'.join(part.translate(None, b" \t\r\n") for part in between)


def _from_base64(text: bytes) -> bytes:
    """What a JSON string holds; some writers escape the slash or the plus sign in it."""
    try:
        if b"\\" in text:
            text = orjson.loads(b'"%s"' % text).encode()
        if text.find(b"=", 0, -2) >= 0:
            raise BadRequest("an image is not base64: it goes on behind its padding")
        return b"".join([binascii.a2b_base64(piece, strict_mode=True) for piece in _pieces(text)])
    except ValueError as error:  # also of binascii and orjson
        raise BadRequest(f"an image is not base64: {error}") from error


def _from_form(content_type: bytes, body: bytes, max_images: int) -> Payload:
    boundary = parse_options_header(content_type)[1].get(b"boundary")
    if not boundary:
        raise BadRequest("the multipart Content-Type names no boundary")
    form = _Form(max_images)
    try:
        parser = MultipartParser(boundary, form.callbacks, max_header_size=_MOST_HEADER_BYTES)
        form.read(parser, body, b"--" + boundary)
    except FormParserError as error:
        raise BadRequest(f"the form is malformed: {error}") from error
    if not form.complete:
        raise BadRequest("the form ends before its last boundary")
    return Payload(form.files, several=len(form.files) > 1)


class _Form:
    """Collects the files of a form; other fields are passed over."""

    def __init__(self, max_files: int) -> None:
        self.files: list[bytes] = []
        self.complete = False
        self._max_files, self._max_parts, self._n_parts = max_files, max_files + FORM_FIELDS, 0
        self._field = self._value = b""
        self._is_file = self._is_described = False
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

    def read(self, parser: MultipartParser, body: bytes, delimiter: bytes) -> None:
        """Read a body until it is complete or too much; the parser is slow with delimiters that end no part."""
        delimiters = 0
        for piece in _pieces(body):
            delimiters += piece.count(delimiter)
            if delimiters > self._max_parts + 1:
                raise self._too_many_parts()
            parser.write(piece)
            if parser.state == MultipartState.BOUNDARY_PADDING and not piece[-_MOST_BLANKS:].strip():
                raise BadRequest("the form is malformed: blanks without end behind a boundary")
            if self.complete:
                return

    def _too_many_parts(self) -> TooLarge:
        return TooLarge(f"too many parts in one form; at most {self._max_parts} are taken")

    def _begin(self) -> None:
        self._n_parts += 1
        if self._n_parts > self._max_parts:
            raise self._too_many_parts()
        self._is_file, self._is_described, self._parts = False, False, []

    def _on_field(self, data: bytes, start: int, end: int) -> None:
        self._field += data[start:end]

    def _on_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _end_header(self) -> None:
        if self._field.lower() == b"content-disposition" and not self._is_described:
            self._is_file = b"filename" in parse_options_header(self._value)[1]
            self._is_described = True
        self._field = self._value = b""

    def _on_data(self, data: bytes, start: int, end: int) -> None:
        if self._is_file:
            self._parts.append(data[start:end])

    def _end(self) -> None:
        if self._is_file:
            if len(self.files) == self._max_files:
                raise _too_many(self._max_files)
            self.files.append(b"".join(self._parts))

    def _finish(self) -> None:
        self.complete = True
