"""Connections: which are kept, which are closed and when, and that every request gets one answer."""

import json
import os
import socket
import struct
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from pathlib import Path

import httpx
import pytest

from service.http.protocol import MAX_HEAD_BYTES
from service.policy import AWAITED_BODY_BYTES
from tests.service.pictures import check, encode, pixels, png
from tests.service.served import Served, Servers, until
from tests.service.stock import MAX_BODY_BYTES
from tests.service.wire import Answer, Wire, get, post


def checked(answer: Answer, seed: int = 0) -> Answer:
    """The answer, which must be a prediction of `png(seed)`."""
    assert answer.status == 200, answer.body
    check(json.loads(answer.body), pixels(seed))
    return answer


def code(answer: Answer) -> tuple[int, str]:
    """Status and code of a problem."""
    return answer.status, json.loads(answer.body)["code"]


def test_a_connection_serves_many_requests(server: Served) -> None:
    with Wire(server.address) as wire:
        for seed in range(3):
            wire.send(post(png(seed)))
            assert "connection" not in checked(wire.answer(), seed).headers
            wire.send(get("/livez"))
            assert wire.answer().body == b"ok\n"


def test_an_error_that_is_known_at_once_is_one_answer(server: Served) -> None:
    """Not one for the request and another for whatever comes next."""
    with Wire(server.address) as wire:
        for path, status in (("/predict?top_k=0", 400), ("/models/zebra/predict", 404), ("/predictions/wrong", 503)):
            wire.send(post(png(), path))
            assert wire.answer().status == status
            wire.send(post(png(1)))
            checked(wire.answer(), 1)


def test_a_refused_body_that_is_small_is_read_before_the_next_request(server: Served) -> None:
    assert MAX_BODY_BYTES < AWAITED_BODY_BYTES
    with Wire(server.address) as wire:
        wire.send(post(bytes(AWAITED_BODY_BYTES)))
        assert code(wire.answer()) == (413, "too_large")
        wire.send(post(png(), method="DELETE"))
        assert code(wire.answer()) == (405, "method_not_allowed")
        wire.send(post(png()))
        checked(wire.answer())


@pytest.mark.parametrize("fields", [(), ("x-id: 1",)], ids=["plain", "parsed"])
def test_a_refusal_that_waits_for_a_body_is_told_if_that_does_not_come(
    impatient: Served, fields: tuple[str, ...]
) -> None:
    with Wire(impatient.address) as wire:
        wire.send(post(png(), "/predict", *fields, method="PUT").replace(b"/predict", b"/models/zebra/predict")[:-1])
        answer = wire.answer()
        assert (code(answer), answer.headers["connection"]) == ((404, "not_found"), "close")
        assert wire.ended()


@pytest.mark.parametrize(
    ("path", "statuses"), [("/predict", (413,)), ("/nowhere", (404,)), ("/livez", (405,))], ids=str
)
@pytest.mark.parametrize("frame", ["Content-Length: 4194304", "Transfer-Encoding: chunked"])
def test_before_a_large_body_the_answer_comes_at_once_and_is_the_last(
    server: Served, path: str, statuses: tuple[int, ...], frame: str
) -> None:
    """What is behind its answer cannot be taken for a request, and what is sent on does not lose it."""
    rest = bytes(4 << 20)
    with Wire(server.address) as wire:
        wire.send(get(path, frame, method="POST"))
        if "chunked" in frame:
            wire.send(b"400000\r\n" + rest[: MAX_BODY_BYTES + 1])
            rest = rest[MAX_BODY_BYTES + 1 :] + b"\r\n0\r\n\r\n"
        answer = wire.answer()
        assert (answer.status, answer.headers["connection"]) == (*statuses, "close")
        wire.send(rest + get("/livez"))
        assert wire.ended()


def test_a_request_may_come_byte_by_byte(server: Served) -> None:
    with Wire(server.address) as wire:
        wire.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for byte in post(png()):
            wire.send(bytes([byte]))
        checked(wire.answer())


@pytest.mark.parametrize("path", ["/predict", "/models"])
def test_a_connection_closes_if_its_client_asks_for_it(server: Served, path: str) -> None:
    request = post(png(), path, "Connection: close") if path == "/predict" else get(path, "Connection: close")
    with Wire(server.address) as wire:
        wire.send(request)
        answer = wire.answer()
        assert wire.ended()
    assert (answer.status, answer.headers["connection"]) == (200, "close")


def test_http_1_0_is_answered_and_closed(server: Served) -> None:
    with Wire(server.address) as wire:
        wire.send(post(png()).replace(b"HTTP/1.1", b"HTTP/1.0"))
        checked(wire.answer())
        assert wire.ended()


def test_pipelined_questions_are_answered_in_order(server: Served) -> None:
    with Wire(server.address) as wire:
        wire.send(get("/livez") + get("/nowhere") + get("/readyz"))
        assert [wire.answer().status for _ in range(3)] == [200, 404, 200]


def test_what_is_pipelined_behind_a_prediction_is_not_read(server: Served) -> None:
    """The close tells the client that it may send the rest again (RFC 9112, 9.3.2)."""
    with Wire(server.address) as wire:
        wire.send(post(png(0)) + post(png(1)) + get("/livez"))
        assert checked(wire.answer(), 0).headers["connection"] == "close"
        assert wire.ended()


def test_a_prediction_pipelined_behind_a_question_is_not_read(server: Served) -> None:
    before = server.metrics()
    with Wire(server.address) as wire:
        wire.send(get("/models") + post(png()))
        answer = wire.answer()
        assert wire.ended()
    assert (answer.status, answer.headers["connection"]) == (200, "close")
    ok = 'resnet_requests_total{model="plain",outcome="ok",version="2"}'
    assert server.metrics()[ok] == before[ok]


@pytest.mark.parametrize(
    "path", ["/livez", "/readyz", "/models", "/models/plain", "/metrics", "/docs", "/openapi.json"]
)
def test_head_tells_what_get_would_without_the_body(server: Served, path: str) -> None:
    with Wire(server.address) as wire:
        wire.send(get(path, method="HEAD"))
        told = wire.answer(to="HEAD")
        wire.send(get(path))
        got = wire.answer()
    assert (told.status, told.headers["content-type"]) == (got.status, got.headers["content-type"])
    if path != "/metrics":  # which has changed meanwhile
        assert told.headers["content-length"] == got.headers["content-length"] == str(len(got.body))


def test_head_of_a_prediction_is_405_without_a_body(server: Served) -> None:
    with Wire(server.address) as wire:
        wire.send(get("/predict", method="HEAD"))
        assert wire.answer(to="HEAD").status == 405
        wire.send(post(png()))
        checked(wire.answer())


@pytest.mark.parametrize(
    "request_",
    [
        post(png()).replace(b"Content-Length", b"Content-Length: 3\r\nContent-Length"),
        post(png(), "/predict", "Transfer-Encoding: chunked"),
        get("/predict", "Transfer-Encoding: chunked", method="POST") + b"zz\r\n",
        get("/predict", "Content-Length: -1", method="POST"),
        get("/predict", "Content-Length: 99999999999999999999999", method="POST"),
        get("/predict", "Bad\x01Header: x", method="POST"),
        b"POST /predict\r\n\r\n",
        b"POST /pre dict HTTP/1.1\r\n\r\n",
    ],
    ids=["two lengths", "length and chunks", "bad chunk", "negative", "overflow", "bad name", "no version", "space"],
)
def test_a_request_that_could_be_read_two_ways_is_400_and_the_end(server: Served, request_: bytes) -> None:
    with Wire(server.address) as wire:
        wire.send(request_)
        answer = wire.answer()
        assert code(answer) == (400, "bad_request")
        assert answer.headers["connection"] == "close"
        assert wire.ended()


@pytest.mark.parametrize("method", ["post", "Post", "PATCHES"])
def test_a_method_that_is_none_is_told_as_such(server: Served, method: str) -> None:
    with Wire(server.address) as wire:
        wire.send(get("/predict", method=method))
        answer = wire.answer()
    assert code(answer) == (400, "bad_request")
    assert "method" in json.loads(answer.body)["detail"]


def test_a_request_that_is_wrong_and_too_long_is_told_one_of_them(server: Served) -> None:
    with Wire(server.address) as wire:
        wire.send(b"POST /pre dict HTTP/1.1\r\n" + b"x" * (MAX_HEAD_BYTES + 1))
        answer = wire.answer()
        assert wire.ended()
    assert code(answer) == (400, "bad_request")
    assert not server.events("connection failed")


def test_a_target_may_name_the_server(server: Served) -> None:
    with Wire(server.address) as wire:
        wire.send(post(png(), f"{server.url}/predict"))
        checked(wire.answer())


def test_an_upgrade_that_is_not_ours_is_ignored(server: Served) -> None:
    """As `curl --http2` asks for it."""
    upgrade = ("Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAMAAABkAAQAoAAAAAIAAAAA")
    with Wire(server.address) as wire:
        wire.send(post(png(), "/predict", *upgrade))
        checked(wire.answer())


# Clients that are slow


@pytest.fixture(scope="module")
def impatient(serve_module: Servers, repository: Path) -> Served:
    """A server with short timeouts and few slots."""
    flags = (
        "--model-repository",
        repository,
        "--default-model",
        "plain",
        "--workers",
        "1",
        "--api-processes",
        "1",
        "--queue-capacity",
        "4",
    )
    return serve_module(
        *flags, *["--header-timeout", "0.3", "--body-timeout", "0.3", "--keep-alive-timeout", "0.3"]
    ).ready()


@pytest.mark.parametrize("part", [1, 30], ids=["one byte", "half the headers"])
def test_headers_that_do_not_come_are_408(impatient: Served, part: int) -> None:
    with Wire(impatient.address) as wire:
        wire.send(post(png())[:part])
        answer = wire.answer()
        assert wire.ended()
    assert code(answer) == (408, "request_timeout")
    assert answer.headers["connection"] == "close"


def test_a_body_that_does_not_come_is_408(impatient: Served) -> None:
    with Wire(impatient.address) as wire:
        wire.send(post(png(), "/predict", "X-Request-ID: slow")[:-1])
        answer = wire.answer()
        assert wire.ended()
    assert code(answer) == (408, "request_timeout")
    assert (answer.headers["x-request-id"], answer.headers["connection"]) == ("slow", "close")


def test_single_bytes_do_not_prolong_the_timeout(impatient: Served) -> None:
    """It is of the whole message, not of each piece."""
    request = post(png())
    with Wire(impatient.address) as wire:
        wire.socket.settimeout(0.05)
        received = b""
        for byte in request:
            wire.send(bytes([byte]))
            try:
                received = wire.socket.recv(65536)
                break
            except TimeoutError:
                continue
    assert received.startswith(b"HTTP/1.1 408 ")


def upload(served: Served, seconds: float, *fields: str) -> tuple[int, float]:
    """Send a body steadily for so long: the status that it gets, and after how many seconds."""
    whole = post(png() + bytes(100_000), "/predict", "Connection: close", *fields)
    began, sent, received = time.monotonic(), 0, b""
    with Wire(served.address) as wire:
        wire.socket.settimeout(0.01)
        while not received:
            due = int((time.monotonic() - began) / seconds * len(whole))
            with suppress(TimeoutError):
                wire.send(whole[sent:due])
                sent = max(sent, due)
                received = wire.socket.recv(65536)
    return int(received.split()[1]), time.monotonic() - began


def test_a_body_that_comes_steadily_may_take_longer_than_a_silent_one(serve: Servers, repository: Path) -> None:
    flags = ("--model-repository", repository, "--default-model", "plain", "--workers", "1", "--body-timeout", "2")
    status, took_s = upload(serve(*flags).ready(), 3.0)
    assert (status, took_s > 3.0) == (200, True)


def test_a_body_that_comes_steadily_has_until_its_requests_deadline(impatient: Served) -> None:
    status, took_s = upload(impatient, 60.0, "X-Request-Timeout-Ms: 200")
    assert (status, took_s < 60.0) == (408, True)


def test_a_body_of_a_question_that_does_not_come_ends_the_connection(impatient: Served) -> None:
    with Wire(impatient.address) as wire:
        wire.send(get("/livez", "Content-Length: 10"))
        assert wire.answer().status == 200
        assert wire.ended()


@pytest.mark.parametrize(
    "begin", [b"", get("/livez"), post(png())], ids=["new", "after a question", "after a prediction"]
)
@pytest.mark.parametrize("then", [b"", b"\r\n"], ids=["nothing", "empty line"])
def test_an_idle_connection_is_closed_without_a_response(impatient: Served, begin: bytes, then: bytes) -> None:
    """An empty line begins no request (RFC 9112, 2.2)."""
    with Wire(impatient.address) as wire:
        if begin:
            wire.send(begin)
            assert wire.answer().status == 200
        wire.send(then)
        assert wire.ended()


def test_no_timeout_runs_while_a_prediction_is_answered(impatient: Served) -> None:
    """Another connection is idle for too long meanwhile."""
    with Wire(impatient.address) as wire, ThreadPoolExecutor(1) as pool:
        with impatient.paused():
            wire.send(post(png()))
            answer = pool.submit(wire.answer)
            with Wire(impatient.address) as other:
                assert other.ended()  # so long does an idle connection last
        checked(answer.result())


# Clients that leave


CANCELLED = 'resnet_requests_total{model="plain",outcome="cancelled",version="2"}'
INFLIGHT = "resnet_inflight_requests"
ROUNDS, RESETS = 8, 500
PAGE_MIB = os.sysconf("SC_PAGE_SIZE") / 2**20


def test_clients_that_leave_while_they_wait_free_their_slots(impatient: Served) -> None:
    before = impatient.metrics()
    with impatient.paused():
        wires = [Wire(impatient.address) for _ in range(4)]
        for wire in wires:
            wire.send(post(png()))
        until(lambda: impatient.metrics()[INFLIGHT] == 4, "all slots to be taken")
        assert httpx.post(impatient.url + "/predict", content=png()).status_code == 503
        for wire in wires:
            wire.close()
        until(lambda: impatient.metrics()[CANCELLED] - before[CANCELLED] == 4, "the server to notice")
    until(lambda: httpx.post(impatient.url + "/predict", content=png()).status_code == 200, "a free slot")
    for seed in range(8):
        check(httpx.post(impatient.url + "/predict", content=png(seed)).json(), pixels(seed))
    assert impatient.metrics()[INFLIGHT] == 0


@pytest.mark.parametrize("version", [b"HTTP/1.1", b"HTTP/1.0"])
def test_a_client_that_ends_its_sending_side_gets_its_answer(impatient: Served, version: bytes) -> None:
    """As `nc -N` does; the server has heard of the end when the answer begins (RFC 9112, 9.6)."""
    beginning = b"HTTP/1.1 "
    with Wire(impatient.address) as wire:
        with impatient.paused():
            wire.send(post(png()).replace(b"HTTP/1.1", version))
            wire.socket.shutdown(socket.SHUT_WR)
            assert wire.socket.recv(100, socket.MSG_PEEK) == beginning
        assert checked(wire.answer()).headers["connection"] == "close"
        assert wire.ended()


def test_a_client_that_ends_its_sending_side_within_a_refused_body_gets_the_refusal(server: Served) -> None:
    with Wire(server.address) as wire:
        wire.send(post(png(), "/models/zebra/predict")[:-1])
        wire.socket.shutdown(socket.SHUT_WR)
        answer = wire.answer()
        assert (code(answer), answer.headers["connection"]) == ((404, "not_found"), "close")
        assert wire.ended()


@pytest.mark.parametrize("paths", [["/livez"], ["/livez", "/nowhere", "/models"]])
def test_questions_behind_which_the_sending_side_ends_are_answered(server: Served, paths: list[str]) -> None:
    with Wire(server.address) as wire:
        wire.send(b"".join(map(get, paths)))
        wire.socket.shutdown(socket.SHUT_WR)
        assert [wire.answer().status for _ in paths] == [404 if path == "/nowhere" else 200 for path in paths]
        assert wire.ended()


def test_clients_that_reset_their_connection_leave_nothing(serve: Servers, repository: Path) -> None:
    """With SO_LINGER and no time to linger, close sends RST (tcp(7)); each client leaves when it has asked."""
    flags = ("--model-repository", repository, "--default-model", "plain", "--api-processes", "1", "--workers", "1")
    served = serve(*flags).ready()
    request = post(encode(pixels(shape=(240, 240, 1))))
    (api,) = served.api_processes()
    resident_mib = []
    for _ in range(ROUNDS):
        with served.paused():
            wires = [Wire(served.address) for _ in range(RESETS)]
            for wire in wires:
                wire.send(request)
            until(lambda: served.metrics()[INFLIGHT] == RESETS, "all requests to come")
            for wire in wires:
                wire.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                wire.close()
            until(lambda: served.metrics()[INFLIGHT] == 0, "the server to notice")
        until(lambda: httpx.post(served.url + "/predict", content=png()).status_code == 200, "a free slot")
        resident_mib.append(int(Path(f"/proc/{api}/statm").read_text().split()[1]) * PAGE_MIB)
    sent_mib = (ROUNDS - 2) * RESETS * len(request) / 2**20  # after the second round
    assert resident_mib[-1] - resident_mib[1] < sent_mib / 2, resident_mib


@pytest.mark.parametrize("part", [10, -5], ids=["in the headers", "in the body"])
def test_a_client_that_leaves_before_its_request_is_complete_is_forgotten(server: Served, part: int) -> None:
    before = server.metrics()
    with Wire(server.address) as wire:
        wire.send(post(png())[:part])
        if part < 0:
            until(lambda: server.metrics()[INFLIGHT] == 1, "the headers")
    until(lambda: server.metrics()[INFLIGHT] == 0, "its end")
    after = server.metrics()
    assert after[CANCELLED] - before[CANCELLED] == (1 if part < 0 else 0)
    check(httpx.post(server.url + "/predict", content=png()).json(), pixels())


def test_a_connection_in_use_is_kept_for_longer_than_an_idle_one(serve: Servers, repository: Path) -> None:
    flags = ("--model-repository", repository, "--default-model", "plain", "--workers", "1", "--api-processes", "1")
    served = serve(*flags, "--keep-alive-timeout", "3").ready()
    with ThreadPoolExecutor(1) as pool, Wire(served.address) as wire, Wire(served.address) as idle:
        closed = pool.submit(idle.ended)
        answered = 0
        while not closed.done() or answered < 3:
            wire.send(post(png()))
            checked(wire.answer())
            answered += 1
        for ask in (get("/livez"), post(png())):
            wire.send(ask)
            assert wire.answer().status == 200
        assert wire.ended()


def test_every_api_process_gets_some_of_the_connections_that_come_one_by_one(serve: Servers, repository: Path) -> None:
    """As they come from a proxy, which keeps a few open. The ids of requests begin with that of their process."""
    flags = ("--model-repository", repository, "--default-model", "plain", "--api-processes", "3", "--workers", "1")
    served, processes = serve(*flags).ready(), set()
    with ExitStack() as stack:
        until(lambda: len(served.api_processes()) == 3, "all processes")
        for _ in range(200):
            wire = stack.enter_context(Wire(served.address))
            wire.send(post(png()))
            processes.add(checked(wire.answer()).headers["x-request-id"][:16])
    assert len(processes) == 3
