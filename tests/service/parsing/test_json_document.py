"""JSON as other languages' encoders build it."""

import base64
import json

import pytest

from service.errors import BadRequest
from service.policy import BODY_PIECE_BYTES
from tests.service.parsing.bodies import Found, found

IMAGE = bytes(range(256)) * 3 + b"x"
TEXT = base64.b64encode(IMAGE).decode()
LINES = base64.encodebytes(IMAGE).decode()
DATA_URL = "data:image/png;base64," + TEXT
JSON = b"application/json"
ONE = Found([IMAGE], several=False)


def document(text: str) -> bytes:
    return json.dumps({"image": text}).encode()


WAYS = {
    "plain": document(TEXT),
    "a data: URL, as FileReader and canvas give it": document(DATA_URL),
    "a data: URL by PHP": document(DATA_URL).replace(b"/", b"\\/"),
    "lines, as Python's encodebytes and Java's MIME encoder": document(LINES),
    "lines that end in CRLF, by .NET": document(LINES.replace("\n", "\r\n")).replace(b"+", b"\\u002B"),
    "lines as they are, as a shell's base64 puts them": b'{"image": "%s"}' % LINES.encode(),
    "for URLs, as Go's URLEncoding": document(base64.urlsafe_b64encode(IMAGE).decode()),
    "without padding, as Go's RawStdEncoding": document(TEXT.rstrip("=")),
    "a byte order mark, as PowerShell and Notepad": b"\xef\xbb\xbf" + document(TEXT),
    "blanks around, as from a here-document": b"\r\n " + document(TEXT) + b"\n",
}


@pytest.mark.parametrize("body", WAYS.values(), ids=WAYS)
@pytest.mark.parametrize(
    "content_type",
    [
        JSON,
        b"Application/JSON; charset=utf-8",
        b"text/json",
        b"application/vnd.api+json; v=1",
        b"",
        b"application/x-www-form-urlencoded",
        b"text/plain;charset=UTF-8",
    ],
)
def test_an_image_comes_out_whoever_wrote_the_document(content_type: bytes, body: bytes) -> None:
    """Also where no Content-Type says that it is JSON: curl -d names a form's, PowerShell's -Body a text's."""
    assert found(content_type, body, 1) == ONE


def test_what_is_said_to_be_an_image_is_one() -> None:
    assert found(b"image/png", document(TEXT), 1) == Found([document(TEXT)], several=False)


def test_lines_within_a_long_text_are_no_part_of_it() -> None:
    image = bytes(range(256)) * (3 * BODY_PIECE_BYTES // 256)
    text = base64.encodebytes(image).decode().replace("\n", "\r\n")
    assert found(JSON, json.dumps({"images": [text, text]}).encode(), 2) == Found([image, image], several=True)


BAD = {"no!": "not base64", "": "empty", TEXT[:5]: "cut off", "data:text/plain,hello": "data: URL", "\\": "not base64"}


@pytest.mark.parametrize(("text", "why"), BAD.items())
def test_one_bad_image_of_several_fails_alone_in_its_place(text: str, why: str) -> None:
    holds = found(JSON, json.dumps({"images": [TEXT, text, TEXT]}).encode(), 3)
    assert (holds.images[0], holds.images[2], holds.several) == (IMAGE, IMAGE, True)
    assert isinstance(holds.images[1], BadRequest)
    assert why in str(holds.images[1])


@pytest.mark.parametrize(("text", "why"), BAD.items())
def test_a_lone_bad_image_is_the_requests_error(text: str, why: str) -> None:
    with pytest.raises(BadRequest, match=why):
        found(JSON, document(text), 1)


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32"])
def test_another_encoding_than_utf_8_is_named(encoding: str) -> None:
    with pytest.raises(BadRequest, match="UTF-8"):
        found(JSON, document(TEXT).decode().encode(encoding), 1)
