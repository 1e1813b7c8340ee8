"""Pages of other origins that may ask from a browser, and what tells it so (CORS, of the Fetch standard)."""

from collections.abc import Collection, Mapping

METHODS = ("GET", "HEAD", "POST", "PUT", "DELETE")
ASKED = (
    "Authorization",
    "X-API-Key",
    "Content-Type",
    "Content-Encoding",
    "Inference-Header-Content-Length",
    "X-Request-ID",
    "X-Request-Timeout-Ms",
    "traceparent",
    "tracestate",
    "baggage",
)
"""Header fields that a page may send."""
TOLD = (
    "X-Request-ID",
    "Server-Timing",
    "Retry-After",
    "WWW-Authenticate",
    "traceparent",
    "Inference-Header-Content-Length",
)
"""Header fields that a page may read."""


class Cors:
    """Lets pages of these origins read answers, errors too. Keys are sent by pages, so cookies are not asked for."""

    def __init__(self, origins: Collection[str]) -> None:
        self._allowed = {
            origin.encode(): {
                "access-control-allow-origin": origin,
                "access-control-expose-headers": ", ".join(TOLD),
                "vary": "Origin",
            }
            for origin in origins
        }

    def headers(self, asked: Mapping[bytes, bytes]) -> Mapping[str, str]:
        """What an answer to a request with these fields has beside its own."""
        return self._allowed.get(asked.get(b"origin", b""), _STRANGER)


_STRANGER = {"vary": "Origin"}
