"""What a message's head must and must not hold, so that no two readers take it for different messages."""

import re
from collections.abc import Sequence

import httptools

from service.errors import BadRequest, NotImplementedHere
from service.parsing.head import HOST

Field = tuple[bytes, bytes]

_HOST = re.compile(HOST)


def check_head(method: bytes, version: str, fields: Sequence[Field]) -> None:
    """Raise the refusal of a head that HTTP forbids, or whose framing this server does not undo (RFC 9112)."""
    if method == b"CONNECT":
        raise NotImplementedHere("CONNECT is not implemented: this server is no proxy")
    if version not in ("1.1", "1.0"):
        raise BadRequest(f"HTTP/{version} is not supported; use HTTP/1.1")
    hosts = [value for name, value in fields if name == b"host"]
    if len(hosts) > 1 or (not hosts and version == "1.1"):  # section 3.2
        raise BadRequest(f"a request needs exactly one Host field; this one has {len(hosts)}")
    if hosts and not _HOST.fullmatch(hosts[0]):
        raise BadRequest(f"Host names a host, and a port if need be, not {hosts[0][:40].decode('latin-1')!r}")
    if sum(name == b"content-encoding" for name, _ in fields) > 1:
        raise BadRequest("Content-Encoding is given more than once")
    if codings := b",".join(value for name, value in fields if name == b"transfer-encoding"):
        if version == "1.0":  # section 6.1
            raise BadRequest("Transfer-Encoding is not part of HTTP/1.0")
        if codings.lower() != b"chunked":
            raise NotImplementedHere(
                f"of the transfer codings only chunked is implemented, not {codings[:40].decode('latin-1')!r}"
            )


def to_origin_form(method: bytes, url: bytes) -> bytes:
    """A request target without scheme and host, if it has those (RFC 9112, 3.2); BadRequest if it is none."""
    if url.startswith(b"/") or url == b"*":
        return url
    try:
        parsed = httptools.parse_url(url)
    except httptools.HttpParserInvalidURLError as error:
        raise BadRequest("the request target is neither a path nor a URL") from error
    query = b"" if parsed.query is None else b"?" + parsed.query
    if method == b"OPTIONS" and not parsed.path and not query:
        return b"*"  # of the whole server
    return (parsed.path or b"/") + query


def without_offer(method: bytes, url: bytes, version: str, fields: Sequence[Field]) -> bytes:
    """A head again, without its offer to change the protocol, which a server may pass over (RFC 9110, 7.8)."""
    kept = [name + b": " + value + b"\r\n" for name, value in fields if name != b"upgrade"]
    return b"%s %s HTTP/%s\r\n%s\r\n" % (method, url, version.encode(), b"".join(kept))
