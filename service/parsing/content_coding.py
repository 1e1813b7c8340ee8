"""Compressed bodies (Content-Encoding; RFC 9110, 8.4), undone within bounds."""

import sys
import zlib
from collections.abc import Callable, Iterator
from typing import Protocol

from service.errors import BadRequest, TooLarge, UnsupportedCoding
from service.parsing.transfer_encoding import in_pieces
from service.policy import BODY_PIECE_BYTES, DECOMPRESSED_FLOOR_BYTES, DECOMPRESSED_RATIO

try:
    import brotli
except ImportError:
    brotli = None
try:
    if sys.version_info >= (3, 14):
        from compression import zstd
    else:
        from backports import zstd
except ImportError:
    zstd = None  # type: ignore[assignment]

_IN_MEMBERS = ("gzip", "zstd")  # codings whose streams may follow each other, as in files that were put together
_MOST_MEMBERS = 64  # each costs a decompressor
_ZSTD_WINDOW_LOG = 23  # 8 MiB, as much as a client may use (RFC 9659)


class _Stream(Protocol):
    """Undoes one stream of a coding, whose end has come once `ended`, with `rest` behind it."""

    ended: bool
    rest: bytes

    def feed(self, data: bytes) -> Iterator[bytes]:
        """What the next bytes become, in pieces; an error of the coding's own library if they are damaged."""
        ...


class _Zlib:
    def __init__(self, window_bits: int) -> None:
        self._decompressor = zlib.decompressobj(window_bits)
        self.ended, self.rest = False, b""

    def feed(self, data: bytes) -> Iterator[bytes]:
        decompressor = self._decompressor
        while (part := decompressor.decompress(data, BODY_PIECE_BYTES)) or decompressor.unconsumed_tail:
            yield part
            data = decompressor.unconsumed_tail
        self.ended, self.rest = decompressor.eof, decompressor.unused_data


class _Brotli:
    def __init__(self) -> None:
        self._decompressor = brotli.Decompressor()
        self.ended, self.rest = False, b""

    def feed(self, data: bytes) -> Iterator[bytes]:
        decompressor = self._decompressor
        while not self.ended:
            part = decompressor.process(data, output_buffer_limit=BODY_PIECE_BYTES)
            self.ended, data = decompressor.is_finished(), b""
            if not part and decompressor.can_accept_more_data():
                return
            yield part


class _Zstd:
    def __init__(self) -> None:
        options = {int(zstd.DecompressionParameter.window_log_max): _ZSTD_WINDOW_LOG}
        self._decompressor = zstd.ZstdDecompressor(options=options)
        self.ended, self.rest = False, b""

    def feed(self, data: bytes) -> Iterator[bytes]:
        decompressor = self._decompressor
        yield decompressor.decompress(data, BODY_PIECE_BYTES)
        while not (decompressor.eof or decompressor.needs_input):
            yield decompressor.decompress(b"", BODY_PIECE_BYTES)
        self.ended, self.rest = decompressor.eof, decompressor.unused_data


def _is_zlib(body: bytes) -> bool:
    """Whether it begins as zlib's format (RFC 1950, 2.2); some clients send a bare deflate stream."""
    return len(body) > 1 and body[0] & 0x0F == 8 and int.from_bytes(body[:2]) % 31 == 0


_STREAMS: dict[str, Callable[[bytes], _Stream]] = {
    "gzip": lambda _: _Zlib(16 + zlib.MAX_WBITS),
    "deflate": lambda body: _Zlib(zlib.MAX_WBITS if _is_zlib(body) else -zlib.MAX_WBITS),
}
_DAMAGE: tuple[type[Exception], ...] = (zlib.error,)
if brotli:
    _STREAMS["br"] = lambda _: _Brotli()
    _DAMAGE += (brotli.error,)
if zstd:
    _STREAMS["zstd"] = lambda _: _Zstd()
    _DAMAGE += (zstd.ZstdError,)

CODINGS = tuple(_STREAMS)


def most_decompressed(coding: str, size: int, max_bytes: int) -> int:
    """How large a body of this coding and size may become; UnsupportedCoding if the coding is not known."""
    if coding not in _STREAMS:
        raise UnsupportedCoding(coding, CODINGS)
    return min(max_bytes, max(DECOMPRESSED_FLOOR_BYTES, DECOMPRESSED_RATIO * size))


def decompress(coding: str, body: bytes, most_bytes: int) -> bytes:
    """The body without its coding; BadRequest if it is damaged or cut off, TooLarge if it would be larger than that."""
    parts, size = [], 0
    try:
        for part in _decompressed(coding, body):
            size += len(part)
            if size > most_bytes:
                raise TooLarge(
                    f"the body, {len(body)} bytes, becomes more than {most_bytes} without its {coding} coding"
                )
            parts.append(part)
    except _DAMAGE as error:
        raise BadRequest(f"the body is not {coding}, as its Content-Encoding has it, or is damaged") from error
    return b"".join(parts)


def _decompressed(coding: str, body: bytes) -> Iterator[bytes]:
    stream, members = _STREAMS[coding](body), 1
    for piece in in_pieces(body):
        rest = _without_padding(piece) if stream.ended else piece
        while rest:
            if stream.ended:
                members += 1
                stream = _STREAMS[coding](rest)
            if members > (_MOST_MEMBERS if coding in _IN_MEMBERS else 1):
                raise BadRequest(f"the body goes on behind the end of its {coding} coding")
            yield from stream.feed(rest)
            rest = _without_padding(stream.rest) if stream.ended else b""
    if not stream.ended:
        raise BadRequest(f"the body is cut off: its {coding} coding does not end")


def _without_padding(data: bytes) -> bytes:
    return data.lstrip(b"\0")  # as tapes and the program gzip have it
