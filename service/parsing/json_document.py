"""The images in a JSON document, as encoders in many languages write it."""

import re
from collections.abc import Iterator

import orjson

from service.errors import BadRequest, ServiceError
from service.parsing.payload import Payload, Source, too_many_images
from service.parsing.transfer_encoding import BLANKS, from_base64, in_pieces, strip_data_url

BYTE_ORDER_MARK = b"\xef\xbb\xbf"

# A JSON document without its blanks and without its strings, in place of each of which one quotation mark stands.
_ONE_IMAGE, _SEVERAL_IMAGES, _MORE_IMAGES = b'{":"}', re.compile(rb'{":\["(,")*\]}'), re.compile(rb'{":\[(",)*')
_MOST_BLANKS = 1024  # in a row, between two strings
_ESCAPED_BYTES = 6  # of one escape, such as \u002B


def read_json(body: bytes, max_images: int) -> Payload:
    """The images of one of the two documents; BadRequest for any other, TooLarge for more than `max_images`.

    Quotation marks part it, for neither a name nor base64 holds any: no value is built of a hostile document.
    """
    if b"\0" in body[:4]:
        raise BadRequest("the JSON is not in UTF-8")
    payload = Payload(max_images)
    parts = body.removeprefix(BYTE_ORDER_MARK).split(b'"', 2 * (max_images + 2))
    strings, between = parts[1::2], parts[::2]
    if len(strings) == max_images + 2:  # its name and one image too many; what follows is not parted
        if strings[0] == b"images" and _MORE_IMAGES.fullmatch(_punctuation(between[:-1])):
            raise too_many_images(max_images)
    elif strings:
        name, *images = strings
        punctuation = _punctuation(between)
        payload.several = name == b"images" and bool(_SEVERAL_IMAGES.fullmatch(punctuation))
        if payload.several or (name == b"image" and punctuation == _ONE_IMAGE):
            for image in images:
                _add(payload, image)
            return payload
    raise BadRequest('the body must be JSON, {"image": "<base64>"} or {"images": ["<base64>", ...]}')


def _punctuation(between: list[bytes]) -> bytes:
    """What stands between the strings, without blanks."""
    if any(len(part) > _MOST_BLANKS for part in between):
        return b""
    return b'"'.join(part.translate(None, BLANKS) for part in between)


def _add(payload: Payload, text: bytes) -> None:
    """Add the image that a string holds; one that holds none fails alone."""
    try:
        payload.add(from_base64_string(text), Source())
    except ServiceError as error:
        payload.add(b"", Source(error=error))


def from_base64_string(text: bytes) -> bytes:
    """The image in a JSON string's content: base64, or a data: URL of it."""
    return from_base64(_unescape(strip_data_url(text)))


def _unescape(text: bytes) -> Iterator[bytes]:
    """A string's content in pieces: some writers escape the slash or the plus sign, many the ends of lines."""
    for piece in in_pieces(text, b"\\", _ESCAPED_BYTES):
        if b"\\" not in piece:
            yield piece
            continue
        try:
            yield orjson.loads(b'"%s"' % piece.translate(None, BLANKS)).encode()
        except ValueError as error:
            raise BadRequest("it is not base64, nor a JSON string") from error
