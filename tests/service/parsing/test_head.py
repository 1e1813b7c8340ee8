"""What a request's head asks for: paths of the predict routes, and header fields."""

import re
import subprocess
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import quote

import httptools
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from service.errors import BadRequest
from service.http.framing import check_head
from service.parsing.head import _PLAIN_FIELDS, MAX_NUMBER, Head, Kind, Target, parse_target, read_plain
from service.policy import PLAIN_HEAD_BYTES
from tests.service.wire import post


@pytest.mark.parametrize(
    ("path", "target"),
    [
        (b"/predict", Target("/predict")),
        (b"/models/m/predict", Target("/models/{model}/predict", "m")),
        (b"/models/m/versions/3/predict", Target("/models/{model}/versions/{version}/predict", "m", "3")),
        (b"/predictions/m", Target("/predictions/{model}", "m")),
        (b"/models/a.b-c/predict", Target("/models/{model}/predict", "a.b-c")),
        (b"/models/caf%C3%A9/predict", Target("/models/{model}/predict", "café")),
        (b"/%70redict", Target("/predict")),
    ],
)
def test_predict_routes(path: bytes, target: Target) -> None:
    assert parse_target(path) == target


@pytest.mark.parametrize(
    "path",
    [
        b"",
        b"/",
        b"*",
        b"/predict/",
        b"//predict",
        b"/predictx",
        b"/models//predict",
        b"/models/a/b/predict",
        b"/models/a%2Fb/predict",
        b"/models/m/versions//predict",
        b"/predictions/",
        b"/models/m",
        b"/models/m/versions/1",
        b"/models/m/predict\n",
    ],
)
def test_other_paths(path: bytes) -> None:
    assert parse_target(path) is None


@given(st.text(min_size=1, max_size=20))
@example("a/b")
@example("a\n")
@example("{model}")
def test_any_model_name_can_be_quoted(name: str) -> None:
    target = parse_target(f"/models/{quote(name, safe='')}/predict".encode())
    assert target == (None if "/" in name else Target("/models/{model}/predict", name))


def head(query: bytes = b"", **fields: bytes) -> Head:
    return Head(
        "POST", Target("/predict"), query, {name.replace("_", "-").encode(): value for name, value in fields.items()}
    )


@pytest.mark.parametrize(("given", "seconds"), [(b"1", 0.001), (b"2500", 2.5), (b"2147483647", 2147483.647)])
def test_a_client_may_give_its_request_a_time_in_milliseconds(given: bytes, seconds: float) -> None:
    assert head(x_request_timeout_ms=given).timeout_s == seconds
    assert head().timeout_s is None


@pytest.mark.parametrize(
    "given", [b"", b"0", b"-1", b"1.5", b"1e3", b"ten", str(MAX_NUMBER + 1).encode(), b"1" * 5000, "٣".encode()]
)
def test_a_time_and_a_number_of_classes_are_positive_whole_numbers_each_time_they_are_asked_for(given: bytes) -> None:
    asking = head(b"top_k=" + given, x_request_timeout_ms=given)
    for _ in range(2):
        with pytest.raises(BadRequest, match="X-Request-Timeout-Ms must be a positive whole number"):
            _ = asking.timeout_s
        with pytest.raises(BadRequest, match="top_k must be a positive whole number"):
            _ = asking.top_k


def test_the_last_of_several_numbers_of_classes_counts_and_five_without_any() -> None:
    assert (head().top_k, head(b"top_k=2&top_k=3&").top_k) == (5, 3)


@pytest.mark.parametrize("query", [b"topk=3", b"top_k=2&other=x&top_k=3", b"top-k", b"=3", b"%66oo=1&top_k=1"])
def test_an_unknown_parameter_is_refused_and_named(query: bytes) -> None:
    with pytest.raises(BadRequest, match=r"unknown query parameter '.*'; the only one is top_k"):
        _ = head(query).top_k


@pytest.mark.parametrize("given", [b"", b"with space", b"x" * 129, b"line\nbreak", "é".encode()])
def test_an_id_that_could_spoil_a_log_is_passed_over(given: bytes) -> None:
    assert head(x_request_id=given).request_id is None
    assert head(x_request_id=b"mine-1").request_id == "mine-1"


@pytest.mark.parametrize("given", [b"", b"00-1-2-01", b"00-" + b"A" * 32 + b"-" + b"b" * 16 + b"-01"])
def test_a_trace_is_passed_on_only_in_its_own_form(given: bytes) -> None:
    trace = "00-" + "a" * 32 + "-" + "b" * 16 + "-01"
    assert head(traceparent=given).trace is None
    assert head(traceparent=trace.encode()).trace == trace


@pytest.mark.parametrize(
    ("given", "kind"),
    [
        (b"image/png", Kind.IMAGE),
        (b"Multipart/Form-Data; boundary=x", Kind.FORM),
        (b"application/json; charset=utf-8", Kind.JSON),
        (b"TEXT/JSON", Kind.JSON),
        (b"application/problem+json", Kind.JSON),
        (b"application/x-www-form-urlencoded", Kind.OTHER),
        (b"", Kind.OTHER),
    ],
)
def test_what_the_body_is_by_its_content_type(given: bytes, kind: Kind) -> None:
    assert head(content_type=given).kind is kind
    assert head().kind is Kind.OTHER


# Plain heads

AGENT = "User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"
PLAIN = {
    "nothing more": [],
    "curl": ["User-Agent: curl/7.88.1", "Accept: */*", "Content-Type: application/x-www-form-urlencoded"],
    "requests": ["User-Agent: python-requests/2.32.5", "Accept-Encoding: gzip, deflate", "Connection: keep-alive"],
    "a browser": [AGENT, "Content-Type: image/png", "Origin: https://digits.example.com", "Cookie: a=b; c=\u00e9"],
    "behind nginx": ["X-Real-IP: 10.0.0.1", "X-Request-ID: 0123456789abcdef", "X-Forwarded-Proto: https", AGENT],
    "blanks and none": ["X-Empty:", "X-Blank: \t ", "x-request-id:mine", "Content-type:  image/png \t"],
    "twice": ["X-Request-ID: first", "X-Request-ID: second"],
}
STRANGE = {
    "to be closed": ["Connection: close"],
    "to be kept and more": ["Connection: keep-alive, upgrade"],
    "by a proxy": ["Proxy-Connection: keep-alive"],
    "waits": ["Expect: 100-continue"],
    "chunked": ["Transfer-Encoding: chunked"],
    "compressed": ["Content-Encoding: gzip"],
    "offers another protocol": ["Upgrade: h2c"],
    "two lengths": ["Content-Length: 4"],
    "two hosts": ["Host: other"],
    "a folded value": ["X-Long: one", " two"],
    "a blank in a name": ["X-Blank : x"],
    "no name": [": x"],
    "no colon": ["X-Nothing"],
    "a control character": ["X-Bell: \a"],
    "an end of a line": ["X-Line: a\nHost: b"],
    "long": [f"X-Long: {'x' * PLAIN_HEAD_BYTES}"],
}
LINES = [
    *(line for lines in (*PLAIN.values(), *STRANGE.values()) for line in lines if len(line) < 100),
    "Content-Length: 04",
    "Content-Length: 4, 4",
    "Content-Length: +4",
    "Content-Length: -4",
    "Content-Length : 4",
    "content-length:4",
    "HOST: server",
    "Host: [::1]:80",
    "Host: a/b",
    "Keep-Alive: timeout=5",
    "X-Request-Timeout-Ms: 5",
    "traceparent: 00-" + "a" * 32 + "-" + "b" * 16 + "-01",
]
TARGETS = ["/predict", "/predict?top_k=3", "/models/a%2Fb/predict?", "//predict", "/predict#x", "/predict?a?b", "*"]


class Parsed:
    """What the parser of HTTP finds in bytes."""

    def __init__(self, data: bytes) -> None:
        self.url, self.body = b"", b""
        self.fields: list[tuple[bytes, bytes]] = []
        self.begun = self.complete = 0
        self._parser = httptools.HttpRequestParser(self)
        self._parser.feed_data(data)
        self.method, self.version = self._parser.get_method(), self._parser.get_http_version()
        self.stays = self._parser.should_keep_alive() and not self._parser.should_upgrade()

    def on_message_begin(self) -> None:
        self.begun += 1

    def on_url(self, url: bytes) -> None:
        self.url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self.fields.append((name.lower(), value.rstrip(b" \t")))

    def on_body(self, body: bytes) -> None:
        self.body += body

    def on_message_complete(self) -> None:
        self.complete += 1


def agrees(data: bytes) -> bool:
    """Whether a request is taken as plain; the parser of HTTP must then find the same in it, and nothing to refuse."""
    message = read_plain(data)
    if message is None:
        return False
    parsed, found = Parsed(data), message.head
    check_head(parsed.method, parsed.version, parsed.fields)
    assert (parsed.begun, parsed.complete) == (1, not message.missing_bytes)
    assert (parsed.stays, parsed.version) == (True, "1.1")
    url = httptools.parse_url(parsed.url)
    assert (found.method.encode(), found.target) == (parsed.method, parse_target(url.path))
    assert (found.query, message.body) == (url.query or b"", parsed.body)
    fields = dict(parsed.fields)
    assert dict(found.headers) == fields
    assert all(found.headers.get(name) is None for name in {b"x-request-timeout-ms", b"authorization", b""} - {*fields})
    assert found.content_length == len(parsed.body) + message.missing_bytes
    return True


@pytest.mark.parametrize("lines", PLAIN.values(), ids=PLAIN.keys())
def test_a_usual_request_is_plain(lines: Sequence[str]) -> None:
    for method in ("POST", "PUT"):
        for path in ("/predict", "/predict?top_k=3", "/models/a-b.c/versions/2/predict", "/predictions/caf%C3%A9"):
            data = post(b"body", path, *lines, method=method)
            assert agrees(data)
            assert all(agrees(data[:-missing]) for missing in range(1, 5))


SYSTEM_PYTHONS = [path for path in Path("/usr/bin").glob("python3.*") if re.fullmatch(r"python3\.1[1-9]", path.name)]


@pytest.mark.skipif(not SYSTEM_PYTHONS, reason="the system has no Python of its own that serving could run with")
def test_a_usual_request_is_plain_for_the_systems_python() -> None:
    """Python's `re` changes between patch releases: 3.11.2, Debian's, takes possessive quantifiers for others."""
    program = (
        "import re, sys; pattern, *heads = eval(sys.stdin.read()); "
        "print([re.fullmatch(pattern, head) is not None for head in heads])"
    )
    messages = [post(b"body", "/predict", *lines) for lines in PLAIN.values()]
    heads = [message[message.index(b"\r\n") : -len(b"body")].lower() for message in messages]
    for python in SYSTEM_PYTHONS:
        told = subprocess.run(
            [python, "-I", "-c", program],
            input=repr([_PLAIN_FIELDS.pattern, *heads]),
            text=True,
            capture_output=True,
            check=True,
            timeout=60,
        )
        assert told.stdout.strip() == str([True] * len(heads))


@pytest.mark.parametrize("lines", STRANGE.values(), ids=STRANGE.keys())
def test_what_changes_how_a_request_is_read_is_left_to_the_parser(lines: Sequence[str]) -> None:
    assert read_plain(post(b"body", "/predict", *lines)) is None


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\r\n\r\n",
        post(b"body")[:-5],
        post(b"body") + b"x",
        post(b"body").replace(b"Length: 4", b"Length: " + b"9" * 20),  # too much for the parser's own number
        post(b"body") * 2,
        b"\r\n" + post(b"body"),
        post(b"body", method="GET"),
        post(b"body", method="post"),
        post(b"body", "/livez"),
        post(b"body", "http://server/predict"),
        post(b"body").replace(b"1.1", b"1.0"),
        post(b"body").replace(b"Host: server\r\n", b""),
        post(b"body").replace(b"Host: server", b"Host: a server"),
        post(b"body").replace(b"Host: server", b"Host: [::1"),
        post(b"body").replace(b"\r\n", b"\n"),
        post(b"body").replace(b"POST ", b"POST  "),
    ],
)
def test_what_is_not_one_plain_request_or_its_beginning_is_left_to_the_parser(data: bytes) -> None:
    assert read_plain(data) is None


@settings(max_examples=1500)
@given(
    st.sampled_from(["POST", "PUT", "GET", "post", "P"]),
    st.sampled_from(TARGETS) | st.text(max_size=9).map(lambda text: "/predict" + text),
    st.lists(st.sampled_from(LINES) | st.text(st.characters(max_codepoint=255), max_size=20), max_size=5),
    st.binary(max_size=6),
    st.lists(st.tuples(st.integers(0, 200), st.binary(max_size=3)), max_size=2),
    st.integers(1, 12),
)
def test_what_is_plain_means_what_the_parser_finds(
    method: str, target: str, lines: list[str], body: bytes, changes: list[tuple[int, bytes]], missing: int
) -> None:
    """Any method, target and fields, with any bytes instead of one of them, whole and cut off."""
    head = "".join(f"{line}\r\n" for line in [f"{method} {target} HTTP/1.1", "Host: server", *lines])
    data = head.encode("latin-1", "replace") + b"Content-Length: %d\r\n\r\n" % len(body) + body
    agrees(data)
    agrees(data[:-missing])
    for place, bytes_ in changes:
        data = data[:place] + bytes_ + data[place + 1 :]
    agrees(data)
