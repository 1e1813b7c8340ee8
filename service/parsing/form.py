"""The images in a multipart body (RFC 2046, RFC 7578), as senders in many languages write it."""

import re
from collections.abc import Iterator
from typing import NamedTuple

from models.images.image_type import image_type
from service.errors import BadRequest, ServiceError, TooLarge, UnsupportedMediaType
from service.parsing.mime_fields import MimeFields
from service.parsing.payload import Payload, Source
from service.parsing.transfer_encoding import from_base64, from_quoted_printable, in_pieces, strip_data_url
from service.policy import BODY_PIECE_BYTES, FORM_FIELDS

_MOST_HEAD_BYTES = 8192  # of one part; a file name of 255 bytes takes 765 where it is percent-encoded
_MOST_NAMED = 3  # fields in an error
_HEAD_BYTES = 64  # of a picture; every type has a zero byte in as many, and no text has
_BEHIND_BOUNDARY = re.compile(rb"--|[ \t]{0,1024}(\r?\n)")  # the last one's mark, or padding and the end of the line
_ANY_FILE = "application/octet-stream"
_DATA_URL = re.compile(rb"data:image/", re.IGNORECASE)


def read_form(content_type: bytes, body: bytes, max_images: int) -> Payload:
    """The images in a multipart body of this Content-Type: its files, and fields that hold an image.

    BadRequest if it is malformed or holds no image, TooLarge if it has more than `max_images` or far more parts.
    """
    form = _Form(body, max_images)
    form.read(MimeFields(b"Content-Type: " + content_type), 0, len(body))
    if not form.payload.images:
        raise BadRequest(f"no image in the form: {form.contents}; send the image as a file")
    form.payload.several = len(form.payload.images) > 1
    return form.payload


class _Part(NamedTuple):
    """One part: its fields, and from where to where its content stands in the body.

    `file` is None where no file name is given, and empty where an input for a file was left empty.
    """

    fields: MimeFields
    name: str
    file: str | None
    start: int
    end: int

    @property
    def is_file(self) -> bool:
        """Whether it is said to be a file."""
        if self.file or self.start == self.end:
            return bool(self.file)
        media_type = self.fields.value("content-type")
        return self.file is not None or media_type == _ANY_FILE or media_type.startswith("image/")


class _Form:
    """Reads one body from delimiter to delimiter."""

    def __init__(self, body: bytes, max_images: int) -> None:
        self.payload = Payload(max_images)
        self._body = body
        self._most_parts = self._parts_left = max_images + FORM_FIELDS
        self._others: list[str] = []

    @property
    def contents(self) -> str:
        """The names of the fields that are no images."""
        names = ", ".join(self._others[:_MOST_NAMED])
        return f"its fields are {names}{', ...' if len(self._others) > _MOST_NAMED else ''}" if names else "it is empty"

    def read(self, outer: MimeFields, start: int, end: int, field: str | None = None) -> None:
        """Read the parts of what stands there; `field` is the form's field that is a multipart body itself."""
        for part in self._parts(_boundary(outer), start, end):
            name = part.name or field or ""
            if not part.fields.value("content-type").startswith("multipart/"):
                self._take(part, name)
            elif field is None:
                self.read(part.fields, part.start, part.end, name)
            else:
                raise BadRequest(f"the form's field {name[:80]!r} is nested more than once")

    def _take(self, part: _Part, name: str) -> None:
        """Take a part if it is an image, or said to be a file."""
        is_image, image, error = part.is_file, b"", None
        try:
            image = _undo_encoding(part.fields, self._body[part.start : part.end])
            if not is_image and _DATA_URL.match(image):
                is_image = True
                image = from_base64(in_pieces(strip_data_url(image)))
        except ServiceError as found:
            error = found
        if is_image or (image_type(image) and b"\0" in image[:_HEAD_BYTES]):  # a text may begin with BM
            self.payload.add(image, Source(name, part.file or "", error))
        else:
            self._others.append(repr(name[:80]))

    def _parts(self, boundary: bytes, start: int, end: int) -> Iterator[_Part]:
        """The parts between the delimiters there; lines may end in LF alone if the first delimiter does."""
        mark = b"--" + boundary
        behind = self._find_delimiter(mark, start, end, first=True)
        newline = behind[1]
        while behind[1]:
            fields_start = behind.end()
            blank = self._body.find(newline * 2, fields_start - len(newline), fields_start + _MOST_HEAD_BYTES)
            if blank < 0:
                raise BadRequest("the form is malformed: the fields of a part do not end")
            content_start = blank + 2 * len(newline)
            behind = self._find_delimiter(newline + mark, content_start, end)
            fields = MimeFields(self._body[fields_start:content_start])
            given = fields.parameters("content-disposition")
            content_end = behind.start() - len(newline + mark)
            yield _Part(fields, given.get("name", ""), given.get("filename"), content_start, content_end)

    def _find_delimiter(self, delimiter: bytes, start: int, end: int, *, first: bool = False) -> re.Match[bytes]:
        """What stands behind the next delimiter: its first group is the line's end, None behind the last delimiter."""
        at = self._find(delimiter, start, end)
        while at >= 0:
            self._count_part()
            begins_line = not first or at == start or self._body[at - 1 : at] == b"\n"
            behind = _BEHIND_BOUNDARY.match(self._body, at + len(delimiter), end)
            if begins_line and behind:
                return behind
            at = self._find(delimiter, at + 1, end)
        raise BadRequest(
            "the form does not begin with the boundary that its Content-Type names: leave both to the HTTP client"
            if first
            else "the form ends before its last boundary: it is cut off; send it whole"
        )

    def _count_part(self) -> None:
        self._parts_left -= 1
        if self._parts_left < -1:  # the last delimiter begins no part
            raise TooLarge(f"too many parts in one form; at most {self._most_parts} are taken")

    def _find(self, sought: bytes, start: int, end: int) -> int:
        """Where this stands first, -1 if nowhere; searched in pieces."""
        while start < end:
            stop = start + BODY_PIECE_BYTES
            at = self._body.find(sought, start, min(stop + len(sought) - 1, end))
            if at >= 0:
                return at
            start = stop
        return -1


def _boundary(fields: MimeFields) -> bytes:
    boundary = fields.parameters("content-type").get("boundary")
    if not boundary:
        raise BadRequest("the multipart Content-Type names no boundary: leave that header to the HTTP client")
    return boundary.encode()


def _undo_encoding(fields: MimeFields, content: bytes) -> bytes:
    """A part's content without its Content-Transfer-Encoding (RFC 2045, 6); UnsupportedMediaType if it is unknown."""
    encoding = fields.value("content-transfer-encoding")
    if encoding in ("", "binary", "8bit", "7bit"):
        return content
    if encoding == "base64":
        return from_base64(in_pieces(content))
    if encoding == "quoted-printable":
        return from_quoted_printable(content)
    raise UnsupportedMediaType(
        f"its Content-Transfer-Encoding {encoding[:40]!r} is not known; send binary, base64 or quoted-printable"
    )
