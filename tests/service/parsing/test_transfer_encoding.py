"""Bytes written as text: the standard library writes them."""

import base64
import binascii

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.errors import BadRequest
from service.parsing.transfer_encoding import from_base64, from_quoted_printable, in_pieces, strip_data_url
from service.policy import BODY_PIECE_BYTES

ALL_BYTES = bytes(range(256))


def written(data: bytes) -> dict[str, bytes]:
    """Base64 as encoders write it."""
    text, for_urls = base64.b64encode(data), base64.urlsafe_b64encode(data)
    return {
        "in one line": text,
        "in lines": base64.encodebytes(data),
        "in lines that end in CRLF": base64.encodebytes(data).replace(b"\n", b"\r\n"),
        "for URLs": for_urls,
        "without padding": text.rstrip(b"="),
        "for URLs without padding": for_urls.rstrip(b"="),
    }


@given(st.binary(max_size=300))
def test_base64_of_any_encoder_is_what_was_written(data: bytes) -> None:
    for text in written(data).values():
        assert from_base64(in_pieces(text)) == data


@pytest.mark.parametrize("way", written(b""))
@pytest.mark.parametrize("more", range(4))
def test_base64_in_many_pieces_is_what_was_written(way: str, more: int) -> None:
    data = ALL_BYTES * (3 * BODY_PIECE_BYTES // 256) + bytes(more)
    assert from_base64(in_pieces(written(data)[way])) == data


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (b"no!", "holds '!'"),
        (b"https://host/a.png", "holds ':'"),
        (b"caf\xc3\xa9", "holds"),
        (b"AAAAA", "cut off"),
        (b"AA==AAAA", "behind its padding"),
        (b"AA==A", "behind its padding"),
        (b"A=AA", "behind its padding"),
        (b"AAAA" * BODY_PIECE_BYTES + b"AA==" + b"AAAA", "behind its padding"),
    ],
)
def test_what_is_no_base64_is_told_why(text: bytes, why: str) -> None:
    with pytest.raises(BadRequest, match=why):
        from_base64(in_pieces(text))


@pytest.mark.parametrize(
    "prefix", [b"data:image/png;base64,", b"DATA:;Base64,", b"\ndata:image/jpeg;name=a;base64,", b""]
)
def test_a_data_url_is_its_base64(prefix: bytes) -> None:
    assert strip_data_url(prefix + b"AAAA") == b"AAAA"


def test_a_data_url_that_is_not_in_base64_is_named() -> None:
    with pytest.raises(BadRequest, match="data: URL"):
        strip_data_url(b"data:image/svg+xml;utf8,<svg/>")


@given(st.binary(max_size=300))
def test_quoted_printable_is_what_was_written(data: bytes) -> None:
    assert from_quoted_printable(binascii.b2a_qp(data, istext=False)) == data


def test_quoted_printable_in_many_pieces_is_what_was_written() -> None:
    data = (ALL_BYTES + b"plain ") * (2 * BODY_PIECE_BYTES // 256)
    assert from_quoted_printable(binascii.b2a_qp(data, istext=False)) == data


@pytest.mark.parametrize("shift", range(7))
def test_no_piece_ends_within_an_escape(shift: int) -> None:
    data = b"x" * shift + b"\\u002B" * (BODY_PIECE_BYTES // 2)
    pieces = list(in_pieces(data, b"\\", 6))
    assert b"".join(pieces) == data
    assert len(pieces) > 2
    assert {(len(piece) - shift * (piece is pieces[0])) % 6 for piece in pieces} == {0}
