"""Forms as other languages' clients build them; a picture in them is told by its first bytes alone."""

import base64
import binascii
from collections.abc import Callable
from email.mime.image import MIMEImage
from email.mime.multipart import MIMEMultipart
from email.mime.text import MIMEText

import pytest

from service.errors import BadRequest, TooLarge, UnsupportedMediaType
from service.policy import BODY_PIECE_BYTES
from tests.service.parsing.bodies import Found, found
from tests.service.pictures import png

PNG = png()
FORM = b"multipart/form-data; boundary=X"
FILE = 'Content-Disposition: form-data; name="image"; filename="a.png"'
FIELD = 'Content-Disposition: form-data; name="image"'
ONE = Found([PNG], several=False)


def form(*parts: tuple[str, bytes], before: bytes = b"", padding: bytes = b"", boundary: bytes = b"X") -> bytes:
    """Parts of header lines and content."""
    written = [b"--" + boundary + padding + b"\r\n" + head.encode() + b"\r\n\r\n" + data for head, data in parts]
    return before + b"".join(part + b"\r\n" for part in written) + b"--" + boundary + b"--" + padding + b"\r\n"


def with_lf(body: bytes) -> bytes:
    """The lines of heads and delimiters end in LF; the picture stays."""
    return body.replace(PNG, b"PICTURE").replace(b"\r\n", b"\n").replace(b"PICTURE", PNG)


NOTE = 'Content-Disposition: form-data; name="note"', b"a note"
EMPTY = 'Content-Disposition: form-data; name="b"; filename=""\r\nContent-Type: application/octet-stream', b""
MIXED = (
    FIELD + "\r\nContent-Type: multipart/mixed; boundary=Y",
    form(('Content-Disposition: file; filename="a.png"\r\nContent-Type: image/png', PNG), boundary=b"Y"),
)
FORMS = {
    "a file": form((FILE, PNG)),
    "no file name but a type: curl -F 'image=<a.png;type=image/png'": form(
        (FIELD + "\r\nContent-Type: image/png", PNG)
    ),
    "no file name, any type: Node's form-data": form((FIELD + "\r\nContent-Type: application/octet-stream", PNG)),
    "neither name nor type: requests' files={'image': (None, data)}": form((FIELD, PNG)),
    "an extended file name alone": form((FIELD + "; filename*=UTF-8''gr%C3%BCn.png", PNG)),
    "an input that was left empty beside it": form(EMPTY, (FILE, PNG), EMPTY),
    "fields beside it": form(NOTE, (FILE, PNG), NOTE, (FIELD, b"BMW"), (FIELD, b"GIF89a is a type of picture")),
    "a preamble": form((FILE, PNG), before=b"This is a multi-part message in MIME format.\r\n\r\n"),
    "a preamble that begins with an empty line": form((FILE, PNG), before=b"\r\n"),
    "a boundary within the preamble's line": form((FILE, PNG), before=b"not --X\r\n"),
    "an epilogue": form((FILE, PNG)) + b"\r\nthe end\r\n--X\r\nno part",
    "padding": form((FILE, PNG), NOTE, padding=b" \t "),
    "no line's end at its end": form((FILE, PNG))[:-2],
    "lines that end in LF": with_lf(form(NOTE, (FILE, PNG), EMPTY)),
    "lines that end in LF, and a preamble": with_lf(form((FILE, PNG), before=b"preamble\r\n")),
    "nested": form(NOTE, MIXED),
    "base64": form((FILE + "\r\nContent-Transfer-Encoding: Base64", base64.encodebytes(PNG))),
    "base64 without a file name": form((FIELD + "\r\nContent-Transfer-Encoding: base64", base64.b64encode(PNG))),
    "quoted-printable": form(
        (FILE + "\r\nContent-Transfer-Encoding: quoted-printable", binascii.b2a_qp(PNG, istext=False))
    ),
    "binary": form((FILE + "\r\nContent-Transfer-Encoding: BINARY", PNG)),
    "a data: URL, as a canvas gives it": form((FIELD, b"data:image/png;base64," + base64.b64encode(PNG))),
    "lower-case and folded fields": form((FILE.lower().replace("; ", ";\r\n "), PNG)),
    "no fields at all": form(("", PNG)).replace(b"--X\r\n\r\n\r\n", b"--X\r\n\r\n"),
}


@pytest.mark.parametrize("body", FORMS.values(), ids=FORMS)
def test_a_picture_comes_out_whoever_wrote_the_form(body: bytes) -> None:
    assert found(FORM, body, 1) == ONE


@pytest.mark.parametrize(
    "head",
    [
        FILE,
        FIELD + '; filename=""',
        FIELD + "\r\nContent-Type: application/octet-stream",
        FIELD + "\r\nContent-Type: image/x-unknown",
    ],
)
def test_what_is_said_to_be_a_file_is_taken_for_the_image_whatever_it_holds(head: str) -> None:
    """So the answer tells what is wrong with the file, and not that there is none."""
    assert found(FORM, form(NOTE, (head, b"no picture")), 1) == Found([b"no picture"], several=False)


@pytest.mark.parametrize("content_type", [b"multipart/mixed", b"Multipart/Related", b"multipart/form-data"])
@pytest.mark.parametrize("boundary", [b"boundary=X", b'BOUNDARY="X"', b"charset=utf-8; boundary=X;"])
def test_every_multipart_type_is_a_form(content_type: bytes, boundary: bytes) -> None:
    assert found(content_type + b"; " + boundary, form((FILE, PNG)), 1) == ONE


def test_a_form_that_pythons_email_writes() -> None:
    message, part = MIMEMultipart("form-data", boundary="X"), MIMEImage(PNG, "png")
    part.add_header("Content-Disposition", "form-data", name="image", filename=("utf-8", "", "grün.png"))
    text = MIMEText("ein Gruß", "plain", "utf-8")
    text.add_header("Content-Disposition", "form-data", name="note")
    message.attach(text)
    message.attach(part)
    body = message.as_bytes()
    expected = Found([PNG], several=False, files=("grün.png",))
    assert found(message["Content-Type"].encode(), body, 1, with_files=True) == expected


def test_names_of_several_files_are_told() -> None:
    inner = 'Content-Disposition: file; filename="c.png"', PNG
    mixed = FIELD + "\r\nContent-Type: multipart/mixed; boundary=Y", form(inner, (FIELD, PNG), boundary=b"Y")
    holds = found(
        FORM, form((FILE, PNG), (FIELD, PNG), (FILE.replace("a.png", "図.png"), PNG), mixed), 5, with_files=True
    )
    assert holds == Found([PNG] * 5, several=True, files=("a.png", "", "図.png", "c.png", ""))


REFUSED: dict[str, tuple[bytes, type[Exception], str]] = {
    "no picture": (form(NOTE, EMPTY), BadRequest, "'note', 'b'"),
    "nothing": (b"--X--\r\n", BadRequest, "empty"),
    "an empty file": (form((FILE, b"")), BadRequest, "field 'image', file 'a.png': it is empty"),
    "an unknown encoding": (
        form((FILE + "\r\nContent-Transfer-Encoding: uuencode", PNG)),
        UnsupportedMediaType,
        "'image'.*uuencode",
    ),
    "broken base64": (form((FILE + "\r\nContent-Transfer-Encoding: base64", b"no!")), BadRequest, "'image'.*base64"),
    "a broken data: URL": (form((FIELD, b"data:image/png,x")), BadRequest, "'image'.*data: URL"),
    "nested twice": (form((MIXED[0], form((MIXED[0], b""), boundary=b"Y"))), BadRequest, "'image' is nested"),
    "nested without a boundary": (form((FIELD + "\r\nContent-Type: multipart/mixed", b"")), BadRequest, "boundary"),
    "another boundary": (form((FILE, PNG), boundary=b"Y"), BadRequest, "not begin with the boundary"),
    "cut off": (form((FILE, PNG))[:-10], BadRequest, "last boundary"),
    "fields without end": (b"--X\r\n" + b"a: b\r\n" * 4000, BadRequest, "fields of a part"),
    "too many": (form((FILE, PNG), (FIELD, PNG)), TooLarge, "at most 1"),
}


@pytest.mark.parametrize(("body", "error", "words"), REFUSED.values(), ids=REFUSED)
def test_a_refusal_names_the_field(body: bytes, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        found(FORM, body, 1)


def test_one_bad_file_of_several_fails_alone_in_its_place() -> None:
    bad = (FILE + "\r\nContent-Transfer-Encoding: base64", b"no!"), (FILE, b"")
    holds = found(FORM, form((FILE, PNG), *bad, (FILE, PNG)), 4)
    first, *errors, last = holds.images
    assert (first, last, holds.several) == (PNG, PNG, True)
    assert [str(error).partition(": ")[0] for error in errors] == ["field 'image', file 'a.png'"] * 2


@pytest.mark.parametrize("line", [b"\r\n--X", b"\n--X\n", b"--X\r\n", b"\r\n--Xx\r\n", b"\r\n--X"[:-1] * 3])
@pytest.mark.parametrize(
    "change", [lambda data: data + b"x", lambda data: b"x" + data + b"-", lambda data: b"ab" * 99 + data + b"!"]
)
def test_lines_like_the_boundary_are_part_of_the_picture(line: bytes, change: Callable[[bytes], bytes]) -> None:
    data = PNG + change(line)
    assert found(FORM, form((FILE, data)), 1) == Found([data], several=False)


@pytest.mark.parametrize("before", range(-6, 3))
def test_a_boundary_is_found_wherever_pieces_of_the_body_end(before: int) -> None:
    data = PNG + bytes(BODY_PIECE_BYTES - len(PNG) + before)
    assert found(FORM, form((FILE, data), (FILE, data)), 2) == Found([data, data], several=True)
