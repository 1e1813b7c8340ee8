"""Heads and messages that no ordinary client sends: what HTTP says of them, on real connections."""

import json
import socket
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from service.http.protocol import MAX_HEAD_BYTES
from tests.service.pictures import png
from tests.service.served import Served
from tests.service.test_connections import checked, code
from tests.service.wire import Answer, Wire, get, post

CHUNKED = b"%x\r\n%s\r\n0\r\n\r\n" % (len(png()), png())
HOST = b"Host: server\r\n"


def only_answer(server: Served, *data: bytes) -> Answer:
    """The answer to what is sent here; it has to be the last on its connection."""
    with Wire(server.address) as wire:
        wire.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for piece in data:
            wire.send(piece)
        answer = wire.answer()
        assert wire.ended()
    assert answer.headers["connection"] == "close"
    return answer


@contextmanager
def nothing_failed(server: Served) -> Iterator[None]:
    """No traceback is logged meanwhile, and no 500 is counted."""

    def failures() -> tuple[int, float]:
        counts = server.metrics()
        return len(server.events(level="error")), sum(n for series, n in counts.items() if 'code="500"' in series)

    before = failures()
    yield
    assert failures() == before, server.log[-3000:]


def test_a_head_that_is_refused_has_its_id_and_trace(server: Served) -> None:
    trace = f"00-{'a' * 32}-{'b' * 16}-01"
    with Wire(server.address) as wire:
        wire.send(get("/livez", "X-Request-ID: mine", f"traceparent: {trace}", "Host: another"))
        answer = wire.answer()
    assert (answer.status, json.loads(answer.body)["request_id"]) == (400, "mine")
    assert (answer.headers["x-request-id"], answer.headers["traceparent"]) == ("mine", trace)


def test_connect_is_not_implemented_and_counted(server: Served) -> None:
    series = 'resnet_http_requests_total{code="501",method="other",route=""}'
    before = server.metrics().get(series, 0.0)
    with nothing_failed(server):
        assert code(only_answer(server, b"CONNECT example.org:443 HTTP/1.1\r\n\r\n")) == (501, "not_implemented")
        assert code(only_answer(server, b"CONNECT / HTTP/1.1\r\nHost: x\r\n\r\n" * 2)) == (501, "not_implemented")
    assert server.metrics()[series] - before == 2


@pytest.mark.parametrize("hosts", [b"", HOST * 2, HOST + b"Host: other\r\n"], ids=["none", "the same", "two"])
@pytest.mark.parametrize("path", [b"/predict", b"/livez"])
def test_a_request_names_one_host(server: Served, path: bytes, hosts: bytes) -> None:
    assert code(only_answer(server, b"POST " + path + b" HTTP/1.1\r\n" + hosts + b"\r\n")) == (400, "bad_request")


@pytest.mark.parametrize("value", [b"x y", b"user@x", b"x/predict", b"http://x", b"x:http", b"x, x", b"[::1", b"\xe9"])
@pytest.mark.parametrize("path", [b"/predict", b"/livez"])
def test_a_host_is_a_name_or_an_address(server: Served, path: bytes, value: bytes) -> None:
    """RFC 9112, 3.2: what is none must be refused, or a proxy and we may take it for different ones."""
    head = b"POST " + path + b" HTTP/1.1\r\nContent-Length: 0\r\nHost: " + value + b"\r\n\r\n"
    assert code(only_answer(server, head)) == (400, "bad_request")


@pytest.mark.parametrize(
    "value", [b"", b"x:", b"X_1.example:80", b"127.0.0.1:8000", b"[::1]:8000", b"[fe80::1]", b"a%20b"]
)
def test_any_host_that_is_one_is_taken(server: Served, value: bytes) -> None:
    for request in (post(png(), "/predict", "Connection: close"), get("/livez", "Connection: close")):
        assert only_answer(server, request.replace(b"Host: server", b"Host: " + value + b" \t")).status == 200


def test_http_1_0_needs_no_host_and_is_closed_also_if_it_would_stay(server: Served) -> None:
    """As `ab -k` sends it: it would wait for a word that the connection stays."""
    request = post(png(), "/predict", "Connection: Keep-Alive").replace(HOST, b"").replace(b"HTTP/1.1", b"HTTP/1.0")
    for _ in range(2):
        checked(only_answer(server, request))


@pytest.mark.parametrize("version", ["0.9", "2.0"])
def test_other_versions_are_400(server: Served, version: str) -> None:
    assert code(only_answer(server, f"GET /livez HTTP/{version}\r\nHost: x\r\n\r\n".encode()))[0] == 400


@pytest.mark.parametrize("path", ["/predict", "/livez"])
@pytest.mark.parametrize("codings", [("gzip, chunked",), ("gzip", "chunked"), ("identity",)])
def test_a_transfer_coding_that_is_not_undone_is_501(server: Served, path: str, codings: tuple[str, ...]) -> None:
    fields = [f"Transfer-Encoding: {coding}" for coding in codings]
    answer = only_answer(server, get(path, *fields, method="POST") + CHUNKED)
    assert code(answer) == (501, "not_implemented")
    assert b"not '%s'" % ",".join(codings).encode() in answer.body


def test_chunks_are_undone_and_not_part_of_http_1_0(server: Served) -> None:
    request = get("/predict", "Transfer-Encoding: Chunked", method="POST") + CHUNKED
    with Wire(server.address) as wire:
        wire.send(request)
        checked(wire.answer())
    old = request.replace(b"HTTP/1.1", b"HTTP/1.0")
    assert code(only_answer(server, old)) == (400, "bad_request")


@pytest.mark.parametrize(
    ("method", "target", "status"),
    [
        ("POST", "http://server/predict?top_k=1", 200),
        ("POST", "http://server", 404),
        ("POST", "http://server?top_k=1", 404),
        ("GET", "http://server/livez", 200),
        ("GET", "HTTP://server:80/models/plain", 200),
        ("GET", "http://server:99999/livez", 400),
        ("OPTIONS", "*", 200),
        ("OPTIONS", "http://server", 200),
        ("OPTIONS", "http://server/", 404),
        ("OPTIONS", "http://server/predict", 200),
    ],
)
def test_a_target_may_be_a_whole_url(server: Served, method: str, target: str, status: int) -> None:
    """RFC 9112, 3.2.2."""
    with nothing_failed(server), Wire(server.address) as wire:
        for _ in range(2):
            wire.send(post(png(), target, method=method) if method == "POST" else get(target, method=method))
            answer = wire.answer()
            assert answer.status == status, answer.body
            if status == 400:
                assert wire.ended()
                break


def test_blanks_behind_a_value_are_no_part_of_it(server: Served) -> None:
    """RFC 9112, 5.1; the second time the head is known."""
    trace = f"00-{'a' * 32}-{'b' * 16}-01"
    fields = ("X-Request-Timeout-Ms: 9000 ", "X-Request-ID:\tmine\t ", f"traceparent: {trace} ", "Accept:  ")
    with Wire(server.address) as wire:
        for _ in range(2):
            wire.send(post(png(), "/predict", *fields))
            answer = checked(wire.answer())
            assert (answer.headers["x-request-id"], answer.headers["traceparent"]) == ("mine", trace)


def test_a_latest_deadline_clamps_whatever_a_client_names(server: Served) -> None:
    with Wire(server.address) as wire:
        for given in ("2147483647", "4294967295", str(2**53 - 1)):
            wire.send(post(png(), "/predict", f"X-Request-Timeout-Ms: {given}"))
            checked(wire.answer())


def test_http_1_0_is_not_told_to_continue(server: Served) -> None:
    """It would take that for the answer (RFC 9110, 10.1.1)."""
    checked(only_answer(server, post(png(), "/predict", "Expect: 100-continue").replace(b"HTTP/1.1", b"HTTP/1.0")))


# Many messages in one piece, and what is not one behind them


def test_thousands_of_pipelined_questions_are_answered(server: Served) -> None:
    count = 5000
    with nothing_failed(server), Wire(server.address) as wire:
        wire.send(get("/livez") * count + get("/livez")[:-20])
        assert {wire.answer().status for _ in range(count)} == {200}
        wire.send(get("/livez")[-20:])
        assert wire.answer().status == 200


@pytest.mark.parametrize("field", [b"X-Many: %s\r\n" % (b"x" * 1000), b"X-Long: %s\r\n" % (b"x" * 2 * MAX_HEAD_BYTES)])
@pytest.mark.parametrize("size", [1000, 40_000, 10 * MAX_HEAD_BYTES])
def test_too_many_bytes_of_headers_are_431_however_they_are_cut(server: Served, field: bytes, size: int) -> None:
    head = b"GET /livez HTTP/1.1\r\n" + HOST + field * max(1, 2 * MAX_HEAD_BYTES // len(field)) + b"\r\n"
    assert code(only_answer(server, *(head[at : at + size] for at in range(0, len(head), size))))[0] == 431


@pytest.mark.parametrize("size", [1000, 40_000, 10 * MAX_HEAD_BYTES])
def test_as_many_as_are_taken_are_taken_however_they_are_cut(server: Served, size: int) -> None:
    head = get("/livez", *[f"X-Many: {'x' * 990}"] * (MAX_HEAD_BYTES // 1000 - 1))
    whole = get("/livez") * 100 + head + head[:-9]
    with Wire(server.address) as wire:
        wire.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for at in range(0, len(whole), size):
            wire.send(whole[at : at + size])
        wire.send(head[-9:])
        assert [wire.answer().status for _ in range(102)] == [200] * 102


GARBAGE = [
    b"\x00\x01garbage\r\n\r\n",
    b"GET / HTTP/1.1\r\nBad\x01Name: x\r\n\r\n",
    b"GET / HTTP/9.9\r\n\r\n",
    b"CONNECT",
]


@pytest.mark.parametrize("garbage", GARBAGE)
def test_garbage_behind_a_prediction_does_not_spoil_it(server: Served, garbage: bytes) -> None:
    with nothing_failed(server):
        for _ in range(2):
            checked(only_answer(server, post(png()) + garbage))
    assert server.metrics()["resnet_inflight_requests"] == 0


@pytest.mark.parametrize("garbage", GARBAGE[:3])
@pytest.mark.parametrize("questions", [1, 3])
def test_garbage_behind_questions_does_not_spoil_them(server: Served, garbage: bytes, questions: int) -> None:
    with nothing_failed(server), Wire(server.address) as wire:
        wire.send(get("/models") * questions + garbage)
        answers = [wire.answer() for _ in range(questions)]
        assert [answer.status for answer in answers] == [200] * questions
        assert wire.ended()


def test_a_body_that_is_spoilt_behind_its_answer_is_not_answered_again(server: Served) -> None:
    with nothing_failed(server), Wire(server.address) as wire:
        wire.send(get("/livez", "Transfer-Encoding: chunked"))
        assert wire.answer().status == 200
        wire.send(b"no chunk\r\n")
        assert wire.ended()


UPGRADE = ("Connection: close, Upgrade", "Upgrade: h2c")


def test_an_offer_of_another_protocol_changes_nothing_else(server: Served) -> None:
    checked(only_answer(server, post(png(), "/predict", *UPGRADE)))
    checked(only_answer(server, post(png(), "/predict", *UPGRADE).replace(b"HTTP/1.1", b"HTTP/1.0").replace(HOST, b"")))
    assert code(only_answer(server, post(png(), "/predict", "Host: other", *UPGRADE)))[0] == 400


def test_thousands_of_offers_are_passed_over(server: Served) -> None:
    count = 2000
    with nothing_failed(server), Wire(server.address) as wire:
        wire.send(get("/livez", "Connection: Upgrade", "Upgrade: h2c") * count)
        assert {wire.answer().status for _ in range(count)} == {200}
