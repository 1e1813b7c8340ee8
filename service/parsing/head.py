"""The head of a prediction request: which model it names, and what it asks for beside its images.

A plain head, as nearly every client and proxy sends it, is recognised by two regular expressions, and a field is looked
up in it when it is asked for. Every other head is left to the parser of HTTP, which takes ten times as long.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from functools import lru_cache
from typing import Any, NamedTuple
from urllib.parse import parse_qs, unquote

from service.errors import BadRequest
from service.policy import KEPT_VALUES, PLAIN_HEAD_BYTES

METHODS = ("POST", "PUT")
INFER_METHODS = ("POST",)
PREDICT_ROUTES = (
    "/predict",
    "/models/{model}/predict",
    "/models/{model}/versions/{version}/predict",
    "/predictions/{model}",  # as TorchServe has it
)
INFER_ROUTES = ("/v2/models/{model}/infer", "/v2/models/{model}/versions/{version}/infer")
"""Routes of the Open Inference Protocol."""
DEFAULT_TOP_K = 5
MAX_NUMBER = 2**53 - 1  # largest whole number that every reader of JSON knows exactly (RFC 8259, 6)

_PATTERNS = [
    (route, re.compile(re.sub(r"{(\w+)}", r"(?P<\1>[^/]+)", route))) for route in (*PREDICT_ROUTES, *INFER_ROUTES)
]
_REQUEST_ID = re.compile(rb"[!-~]{1,128}")
_TRACEPARENT = re.compile(rb"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}")

HOST = rb"(?:\[[\w\-.~!$&'()*+,;=:]+\]|[\w\-.~%!$&'()*+,;=]*)(?::[0-9]*)?"
"""What a Host field may say: a name or an address and a port, any of which may be missing (RFC 9110, 7.2)."""

_PLAIN_LINE = re.compile(rb"(POST|PUT) (/[\w\-.~%/]*)(?:\?([\w\-.~%&=+]*))? HTTP/1\.1", re.ASCII)
_PLAIN_FIELDS = re.compile(
    rb"(?:\r\n(?!transfer-encoding:|content-encoding:|expect:|upgrade:|proxy-connection:|connection:(?! ?keep-alive\r)"
    rb"|host:(?! ?" + HOST + rb"\r))"
    rb"[!#$%&'*+\-.^_`|~0-9a-z]+:[\t -~\x80-\xff]*)+\r\n\r\n"
)
"""Fields in lower case, each behind the end of a line. None frames the body or ends the connection in another way than
Content-Length does; names and values have the characters that RFC 9110 allows them (5.5, 5.6.2).

No quantifier is possessive: in Python 3.11.0 to 3.11.4, Debian's among them, such ones match too little (gh-106052).
What does not match is gone through twice at most: a name ends at its colon, a value with its line."""


def is_inference_path(path: str) -> bool:
    """Whether a path, with or without its query, is of the Open Inference Protocol, known or not."""
    return re.match(r"/v2(?:[/?]|$)", path) is not None


@dataclass(frozen=True, slots=True)
class Target:
    """A predict route, and the model and version that its path names, None where it names none.

    Attributes:
        is_inference: whether requests and responses are those of the Open Inference Protocol.

    """

    route: str
    model: str | None = None
    version: str | None = None
    is_inference: bool = False
    methods: tuple[str, ...] = METHODS


_DEFAULT = Target("/predict")


def without_prefix(path: bytes, prefix: bytes) -> bytes:
    """A path without the prefix under which a proxy publishes the server, if it has that."""
    return path[len(prefix) :] if prefix and path.startswith(prefix + b"/") else path


def parse_target(path: bytes) -> Target | None:
    """What a URL's path, still percent-encoded, names; None if it is no predict route."""
    if path == b"/predict":
        return _DEFAULT
    text = unquote(path.decode("latin-1"))
    for route, pattern in _PATTERNS:
        if match := pattern.fullmatch(text):
            names = match.groupdict()
            if route in INFER_ROUTES:
                return Target(route, names["model"], names.get("version"), is_inference=True, methods=INFER_METHODS)
            return Target(route, names.get("model"), names.get("version"))
    return None


class Kind(Enum):
    """What a body is by the route and its Content-Type."""

    INFERENCE = "tensors of the Open Inference Protocol"
    FORM = "a multipart form"
    JSON = "JSON"
    IMAGE = "an image"
    OTHER = "whatever it begins like"


class PlainFields(Mapping[bytes, bytes]):
    """The fields of a plain head, looked up in its bytes by names in lower case; of equal ones the last counts."""

    __slots__ = ("_fields", "_folded")

    def __init__(self, fields: bytes, folded: bytes) -> None:
        """`folded` is the same in lower case."""
        self._fields, self._folded = fields, folded

    def get(self, name: bytes, default: Any = None) -> Any:  # noqa: ANN401 - as Mapping's
        """Faster than Mapping's, which raises an error for each field that is not there, and catches it."""
        begins = self._folded.rfind(b"\r\n%b:" % name)
        if begins < 0:
            return default
        begins += len(name) + 3
        return self._fields[begins : self._fields.index(b"\r\n", begins)].strip(b" \t")

    def __getitem__(self, name: bytes) -> bytes:
        if (value := self.get(name)) is None:
            raise KeyError(name)
        return bytes(value)

    def __iter__(self) -> Iterator[bytes]:
        return iter(dict.fromkeys(line.partition(b":")[0] for line in self._folded.split(b"\r\n") if line))

    def __len__(self) -> int:
        return sum(1 for _ in self)


@dataclass(eq=False, slots=True)
class Head:
    """The head of one request. Names of header fields are in lower case; a malformed field is a BadRequest."""

    method: str
    target: Target
    query: bytes
    headers: Mapping[bytes, bytes]

    @property
    def top_k(self) -> int:
        """How many classes the client wants."""
        return _read_query(self.query)

    @property
    def timeout_s(self) -> float | None:
        """Seconds that X-Request-Timeout-Ms gives the request, None without that field."""
        given = self.headers.get(b"x-request-timeout-ms")
        return None if given is None else _positive("X-Request-Timeout-Ms", given.decode("latin-1")) / 1e3

    @property
    def content_length(self) -> int | None:
        """Bytes of the body, None if that is not declared."""
        declared = self.headers.get(b"content-length")
        if declared is None:
            return None
        if not declared.isdigit():
            raise BadRequest("Content-Length must be a number")
        return int(declared)

    @property
    def content_type(self) -> bytes:
        """The Content-Type with its parameters; empty if there is none."""
        return self.headers.get(b"content-type") or b""

    @property
    def kind(self) -> Kind:
        """What the body is by the route and its Content-Type."""
        return Kind.INFERENCE if self.target.is_inference else _read_content_type(self.content_type)

    @property
    def is_json(self) -> bool:
        """Whether the body is JSON by its Content-Type."""
        return _read_content_type(self.content_type) is Kind.JSON

    @property
    def coding(self) -> str:
        """How the body is compressed, empty if it is not; several codings are told as one, which nothing undoes."""
        given = self.headers.get(b"content-encoding")
        if given is None:
            return ""
        codings = [coding.strip() for coding in given.decode("latin-1").lower().split(",")]
        coding = ", ".join(coding for coding in codings if coding not in ("", "identity"))
        return "gzip" if coding == "x-gzip" else coding  # RFC 9110, 8.4.1.3

    @property
    def accepted_codings(self) -> frozenset[str]:
        """The content codings that the client takes for the response (RFC 9110, 12.5.3)."""
        given = (self.headers.get(b"accept-encoding") or b"").decode("latin-1").lower().replace(" ", "")
        weighted = [coding.partition(";q=") for coding in given.split(",")]
        return frozenset(coding for coding, _, weight in weighted if not re.fullmatch(r"0(\.0*)?", weight))

    @property
    def inference_header_length(self) -> int | None:
        """Bytes of JSON before the binary tensors of an inference request; None if all of its body is JSON."""
        given = self.headers.get(b"inference-header-content-length")
        if given is None:
            return None
        if not given.isdigit() or len(given) > len(str(MAX_NUMBER)):
            raise BadRequest("Inference-Header-Content-Length must be the number of bytes of the JSON")
        return int(given)

    @property
    def request_id(self) -> str | None:
        """The id that the client gave the request; None if there is none, or one that could spoil a log."""
        given = self.headers.get(b"x-request-id")
        return given.decode() if given and _REQUEST_ID.fullmatch(given) else None

    @property
    def trace(self) -> str | None:
        """The client's trace (W3C Trace Context); None if there is none, or a malformed one."""
        given = self.headers.get(b"traceparent")
        return given.decode() if given and _TRACEPARENT.fullmatch(given) else None


class PlainMessage(NamedTuple):
    """A prediction request with a plain head: the whole of it, or all but so many bytes of its body."""

    head: Head
    body: bytes
    missing_bytes: int


def read_plain(data: bytes) -> PlainMessage | None:
    """The request that these bytes are, or begin, if they are of exactly one with a plain head; None for all else.

    What is taken here is what the parser of HTTP and `service/http/framing.py` would take it for.
    """
    end = data.find(b"\r\n\r\n", 0, PLAIN_HEAD_BYTES) + 4
    if end < 4:
        return None
    line_end = data.index(b"\r\n")
    if (line := _read_line(data[:line_end])) is None:
        return None
    fields = data[line_end:end]
    folded = fields.lower()
    if not _PLAIN_FIELDS.fullmatch(folded) or folded.count(b"\r\nhost:") != 1:
        return None
    head = Head(*line, PlainFields(fields, folded))
    length = head.headers.get(b"content-length") or b""
    if not length.isdigit() or len(length) > len(str(MAX_NUMBER)) or folded.count(b"\r\ncontent-length:") != 1:
        return None
    missing_bytes = int(length) - (len(data) - end)
    return None if missing_bytes < 0 else PlainMessage(head, data[end:], missing_bytes)


@lru_cache(KEPT_VALUES)
def _read_line(line: bytes) -> tuple[str, Target, bytes] | None:
    """Method, target and query of a plain request line that asks for a prediction."""
    match = _PLAIN_LINE.fullmatch(line)
    target = parse_target(match[2]) if match else None
    return (match[1].decode(), target, match[3] or b"") if match and target else None


@lru_cache(KEPT_VALUES)
def _read_content_type(content_type: bytes) -> Kind:
    media_type = content_type.partition(b";")[0].strip().lower()
    if media_type.startswith(b"image/"):
        return Kind.IMAGE
    if media_type.startswith(b"multipart/"):
        return Kind.FORM
    is_json = media_type in (b"application/json", b"text/json") or media_type.endswith(b"+json")
    return Kind.JSON if is_json else Kind.OTHER


@lru_cache(KEPT_VALUES)
def _read_query(query: bytes) -> int:
    """The number of classes that a query asks for."""
    given = parse_qs(query.decode("latin-1"), keep_blank_values=True)
    values = given.pop("top_k", [])
    if given:
        raise BadRequest(f"unknown query parameter {next(iter(given))[:40]!r}; the only one is top_k")
    return _positive("top_k", values[-1]) if values else DEFAULT_TOP_K


def _positive(name: str, text: str) -> int:
    """The positive whole number of at most MAX_NUMBER that a text is."""
    if len(text) < 20 and text.isascii() and text.isdigit() and 0 < int(text) <= MAX_NUMBER:
        return int(text)
    raise BadRequest(f"{name} must be a positive whole number, not {text[:40]!r}")
