"""The images that a request's body holds: a multipart form, JSON, the image itself, or an inference request."""

from models.images.image_type import image_type
from service.errors import BadRequest
from service.parsing.content_coding import decompress
from service.parsing.form import read_form
from service.parsing.head import Head, Kind
from service.parsing.inference import Shape, read_inference
from service.parsing.json_document import BYTE_ORDER_MARK, read_json
from service.parsing.payload import Payload, Source
from service.parsing.transfer_encoding import BLANKS

JSON_BEGINNINGS = BLANKS + BYTE_ORDER_MARK + b"{"
"""First bytes of JSON, with which no image begins."""


def parse(head: Head, body: bytes, shape: Shape, max_images: int, most_bytes: int = 0) -> Payload:
    """The images in a body; BadRequest if it is malformed, TooLarge if there are more than `max_images`.

    `shape`: of pixels that are not encoded. `most_bytes`: how large a compressed body may become, TooLarge if it would
    be larger.

    A body of another type than a form or JSON is the image itself: curl's --data-binary and -T send any type, and
    its -d, with which JSON is sent, that of a web page's form. HTTPie sends a file that it is given as its input as
    JSON. What a hostile body costs is bounded: nothing is read on behind one image too many.
    """
    if head.coding:
        body = decompress(head.coding, body, most_bytes)
    kind = head.kind
    if kind is Kind.INFERENCE:
        return read_inference(head, body, shape, max_images)
    if kind is Kind.FORM:
        return read_form(head.content_type, body, max_images)
    if (kind is Kind.JSON and not image_type(body)) or (kind is Kind.OTHER and _begins_like_json(body)):
        return read_json(body, max_images)
    if not body:
        raise BadRequest("no image in the request: send its bytes, a form with a file, or base64 in JSON")
    payload = Payload(max_images)
    payload.add(body, Source())
    return payload


def _begins_like_json(body: bytes) -> bool:
    return body[:256].removeprefix(BYTE_ORDER_MARK).lstrip(BLANKS).startswith(b"{")
