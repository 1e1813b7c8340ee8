"""Bytes that were written as text, in JSON or in a part of a form: base64, data: URLs and quoted-printable."""

import binascii
import re
from collections.abc import Iterable, Iterator

from service.errors import BadRequest
from service.policy import BODY_PIECE_BYTES

BLANKS = b" \t\r\n"

_TO_STANDARD = bytes.maketrans(b"-_", b"+/")  # from the alphabet for URLs and file names (RFC 4648, 5)
_NOT_BASE64 = re.compile(rb"[^A-Za-z0-9+/=]")
_DATA_URL = re.compile(rb"[ \t\r\n]{0,64}data:([^,]{0,1024}),", re.IGNORECASE)
_QUOTED_BYTES = 3  # of one escape in quoted-printable, such as =3D


def in_pieces(data: bytes, escape: bytes = b"", escaped_bytes: int = 0) -> Iterator[bytes]:
    """The data in pieces, between two of which the event loop may have the interpreter.

    None ends within an escape, which begins with the byte `escape` and is not longer than `escaped_bytes`.
    """
    start = 0
    while start < len(data):
        end = start + BODY_PIECE_BYTES
        if escape and end < len(data):
            begun = data.rfind(escape, end - escaped_bytes, end)
            end = end if begun < 0 else begun
        yield data[start:end]
        start = end


def strip_data_url(text: bytes) -> bytes:
    """The base64 of a data: URL (RFC 2397), any other text as it is; BadRequest if such a URL is not in base64."""
    url = _DATA_URL.match(text)
    if url is None:
        return text
    if not url[1].rstrip().lower().endswith(b";base64"):
        raise BadRequest("it is a data: URL that is not in base64")
    return text[url.end() :]


def from_base64(pieces: Iterable[bytes]) -> bytes:
    """What is written in base64, of either alphabet, with or without line breaks and padding; BadRequest if nothing."""
    decoded, rest, is_padded = [], b"", False
    for piece in pieces:
        digits = rest + piece.translate(_TO_STANDARD, BLANKS)
        if is_padded and digits:
            raise _goes_on()
        whole = len(digits) // 4 * 4
        decoded.append(_decode(digits[:whole]))
        is_padded, rest = digits.endswith(b"=", 0, whole), digits[whole:]
    if is_padded and rest:
        raise _goes_on()
    if len(rest) == 1 and not _NOT_BASE64.match(rest):
        raise BadRequest("it is cut off: one character of base64 is left over")
    if rest:
        decoded.append(_decode(rest.ljust(4, b"=")))
    return b"".join(decoded)


def _decode(digits: bytes) -> bytes:
    try:
        return binascii.a2b_base64(digits, strict_mode=True)
    except binascii.Error as error:
        if wrong := _NOT_BASE64.search(digits):
            raise BadRequest(f"it is not base64: it holds {wrong[0].decode('latin-1')!r}") from error
        raise _goes_on() from error


def _goes_on() -> BadRequest:
    return BadRequest("it is not base64: it goes on behind its padding")


def from_quoted_printable(text: bytes) -> bytes:
    """What is written as quoted-printable (RFC 2045, 6.7); an escape that is none stands for itself."""
    return b"".join(map(binascii.a2b_qp, in_pieces(text, b"=", _QUOTED_BYTES)))
