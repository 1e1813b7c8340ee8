"""A request's head: what it asks for beside its images, in the target and the header fields."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from urllib.parse import parse_qs

from service.errors import BadRequest
from service.prediction.target import Target

DEFAULT_TOP_K = 5

_REQUEST_ID = re.compile(rb"[!-~]{1,128}")
_TRACEPARENT = re.compile(rb"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}")


@dataclass(frozen=True, eq=False)
class Head:
    """The head of one request, or of many that are the same: what it asks is parsed once, when it is first wanted.

    Names of header fields are in lower case. What is malformed is a BadRequest each time.
    """

    method: str
    target: Target
    query: bytes
    headers: Mapping[bytes, bytes]

    @cached_property
    def top_k(self) -> int:
        """How many classes the client wants."""
        given = parse_qs(self.query.decode("latin-1"), keep_blank_values=True).get("top_k")
        return _positive("top_k", given[-1]) if given else DEFAULT_TOP_K

    def timeout_s(self, usual_s: float, most_s: float) -> float:
        """Seconds that X-Request-Timeout-Ms gives the request, the usual ones if it is silent; at most `most_s`."""
        return min(self._given_timeout_s or usual_s, most_s)

    @cached_property
    def _given_timeout_s(self) -> float | None:
        given = self.headers.get(b"x-request-timeout-ms")
        return None if given is None else _positive("X-Request-Timeout-Ms", given.decode("latin-1")) / 1e3

    @cached_property
    def content_length(self) -> int | None:
        """Bytes of the body, if that is declared; the HTTP parser has refused what is not a number."""
        declared = self.headers.get(b"content-length")
        if declared is None:
            return None
        if not declared.isdigit():
            raise BadRequest("Content-Length must be a number")
        return int(declared)

    @cached_property
    def content_type(self) -> bytes:
        """What the body is said to be, parameters included; empty if nothing is said."""
        return self.headers.get(b"content-type", b"")

    @cached_property
    def request_id(self) -> str | None:
        """The id that the client gave the request, unless it could spoil a log."""
        given = self.headers.get(b"x-request-id", b"")
        return given.decode() if _REQUEST_ID.fullmatch(given) else None

    @cached_property
    def trace(self) -> str | None:
        """The client's trace (W3C Trace Context), if it is one."""
        given = self.headers.get(b"traceparent", b"")
        return given.decode() if _TRACEPARENT.fullmatch(given) else None


def _positive(name: str, text: str) -> int:
    """The positive whole number of at most nine digits that a text is."""
    if len(text) < 10 and text.isascii() and text.isdigit() and int(text) > 0:
        return int(text)
    raise BadRequest(f"{name} must be a positive whole number, not {text[:40]!r}")
