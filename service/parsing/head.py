"""The head of a prediction request: which model it names, and what it asks for beside its images."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from urllib.parse import parse_qs, unquote

from service.errors import BadRequest

METHODS = ("POST", "PUT")
INFER_METHODS = ("POST",)
PREDICT_ROUTES = (
    "/predict",
    "/models/{model}/predict",
    "/models/{model}/versions/{version}/predict",
    "/predictions/{model}",  # as TorchServe has it
)
INFER_ROUTES = ("/v2/models/{model}/infer", "/v2/models/{model}/versions/{version}/infer")
"""Of the Open Inference Protocol."""
DEFAULT_TOP_K = 5
MAX_NUMBER = 2**53 - 1  # largest whole number that every reader of JSON knows exactly (RFC 8259, 6)

_JSON = (b"application/json", b"text/json")
_PATTERNS = [
    (route, re.compile(re.sub(r"{(\w+)}", r"(?P<\1>[^/]+)", route))) for route in (*PREDICT_ROUTES, *INFER_ROUTES)
]
_REQUEST_ID = re.compile(rb"[!-~]{1,128}")
_TRACEPARENT = re.compile(rb"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}")


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


@dataclass(frozen=True, eq=False)
class Head:
    """The head of one request, or of many that are the same: a field is parsed once, when it is first asked for.

    Names of header fields are in lower case. A malformed field is a BadRequest each time that it is asked for.
    """

    method: str
    target: Target
    query: bytes
    headers: Mapping[bytes, bytes]

    @cached_property
    def top_k(self) -> int:
        """How many classes the client wants."""
        given = parse_qs(self.query.decode("latin-1"), keep_blank_values=True)
        values = given.pop("top_k", [])
        if given:
            raise BadRequest(f"unknown query parameter {next(iter(given))[:40]!r}; the only one is top_k")
        return _positive("top_k", values[-1]) if values else DEFAULT_TOP_K

    @cached_property
    def timeout_s(self) -> float | None:
        """Seconds that X-Request-Timeout-Ms gives the request, None without that field."""
        given = self.headers.get(b"x-request-timeout-ms")
        return None if given is None else _positive("X-Request-Timeout-Ms", given.decode("latin-1")) / 1e3

    @cached_property
    def content_length(self) -> int | None:
        """Bytes of the body, None if that is not declared."""
        declared = self.headers.get(b"content-length")
        if declared is None:
            return None
        if not declared.isdigit():
            raise BadRequest("Content-Length must be a number")
        return int(declared)

    @cached_property
    def content_type(self) -> bytes:
        """The Content-Type with its parameters; empty if there is none."""
        return self.headers.get(b"content-type", b"")

    @cached_property
    def media_type(self) -> bytes:
        """The Content-Type without its parameters, in lower case."""
        return self.content_type.partition(b";")[0].strip().lower()

    @cached_property
    def is_form(self) -> bool:
        """Whether the body is a multipart form."""
        return self.media_type.startswith(b"multipart/")

    @cached_property
    def is_json(self) -> bool:
        """Whether the body is JSON by its Content-Type."""
        return self.media_type in _JSON or self.media_type.endswith(b"+json")

    @cached_property
    def is_image(self) -> bool:
        """Whether the body is an image by its Content-Type."""
        return self.media_type.startswith(b"image/")

    @cached_property
    def is_raw(self) -> bool:
        """Whether the body is the image itself, unless it begins like JSON."""
        return not (self.target.is_inference or self.is_form or self.is_json or self.coding)

    @cached_property
    def coding(self) -> str:
        """How the body is compressed, empty if it is not; several codings are told as one, which nothing undoes."""
        given = self.headers.get(b"content-encoding", b"").decode("latin-1").lower()
        codings = [coding.strip() for coding in given.split(",")]
        coding = ", ".join(coding for coding in codings if coding not in ("", "identity"))
        return "gzip" if coding == "x-gzip" else coding  # RFC 9110, 8.4.1.3

    @cached_property
    def accepted_codings(self) -> frozenset[str]:
        """The content codings that the client takes for the response (RFC 9110, 12.5.3)."""
        given = self.headers.get(b"accept-encoding", b"").decode("latin-1").lower().replace(" ", "")
        weighted = [coding.partition(";q=") for coding in given.split(",")]
        return frozenset(coding for coding, _, weight in weighted if not re.fullmatch(r"0(\.0*)?", weight))

    @cached_property
    def inference_header_length(self) -> int | None:
        """Bytes of JSON before the binary tensors of an inference request; None if all of its body is JSON."""
        given = self.headers.get(b"inference-header-content-length")
        if given is None:
            return None
        if not given.isdigit():
            raise BadRequest("Inference-Header-Content-Length must be a number")
        return int(given)

    @cached_property
    def request_id(self) -> str | None:
        """The id that the client gave the request; None if there is none, or one that could spoil a log."""
        given = self.headers.get(b"x-request-id", b"")
        return given.decode() if _REQUEST_ID.fullmatch(given) else None

    @cached_property
    def trace(self) -> str | None:
        """The client's trace (W3C Trace Context); None if there is none, or a malformed one."""
        given = self.headers.get(b"traceparent", b"")
        return given.decode() if _TRACEPARENT.fullmatch(given) else None


def _positive(name: str, text: str) -> int:
    """The positive whole number of at most MAX_NUMBER that a text is."""
    if len(text) < 20 and text.isascii() and text.isdigit() and 0 < int(text) <= MAX_NUMBER:
        return int(text)
    raise BadRequest(f"{name} must be a positive whole number, not {text[:40]!r}")
