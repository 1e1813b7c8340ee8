import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from benchmarks.serving import wrk
from benchmarks.serving.servers import free_port
from benchmarks.serving.workloads import Upload
from tests.benchmarks.conftest import Handler, Respond


def test_answers_are_counted_and_failures_with_them(
    http_server: Callable[[Respond], int], require: Callable[[str], str], tmp_path: Path
):
    require("wrk")
    seen: list[tuple[bytes, str | None]] = []
    over = threading.Event()

    def every_third_of_thirty_fails_and_then_there_is_silence(handler: Handler, body: bytes) -> None:
        seen.append((body, handler.headers["Content-Type"]))
        if len(seen) > 30:
            over.wait()
        handler.answer(500 if len(seen) % 3 == 0 else 200)

    port = http_server(every_third_of_thirty_fails_and_then_there_is_silence)
    load = wrk.drive(f"http://127.0.0.1:{port}/", Upload(b"\0\xffbody", "image/png"), 1, 1, tmp_path)
    over.set()
    assert seen == [(b"\0\xffbody", "image/png")] * 31
    assert (load.requests, load.failed) == (30, 10)
    assert 0 < load.p50_ms <= load.p99_ms <= load.max_ms
    assert load.per_second == 20 / load.seconds
    assert load.cpu_s > 0


def test_connections_pause_before_each_request(
    http_server: Callable[[Respond], int], require: Callable[[str], str], tmp_path: Path
):
    require("wrk")
    port = http_server(lambda handler, _: handler.answer(200))
    message = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nbody"
    load = wrk.replay(f"http://127.0.0.1:{port}/", [message], 2, 1, tmp_path, pause_ms=200)
    assert 0 < load.requests <= 10  # without a pause hundreds


def test_messages_are_sent_in_turn_byte_for_byte(
    http_server: Callable[[Respond], int], require: Callable[[str], str], tmp_path: Path
):
    require("wrk")
    seen: list[tuple[bytes, str | None]] = []

    def answer(handler: Handler, body: bytes) -> None:
        seen.append((body, handler.headers["X-Request-ID"]))
        handler.answer(200)

    bodies = [b"\0\xff\n", b"12\nabc", b"third"]
    head = "POST / HTTP/1.1\r\nHost: a\r\nX-Request-ID: %d\r\nContent-Length: %d\r\n\r\n"
    messages = [(head % (number, len(body))).encode() + body for number, body in enumerate(bodies)]
    load = wrk.replay(f"http://127.0.0.1:{http_server(answer)}/", messages, 1, 1, tmp_path)
    assert load.failed == 0
    first = int(str(seen[0][1]))  # wrk looks at one beforehand
    numbers = [(first + turn) % len(bodies) for turn in range(6)]
    assert seen[:6] == [(bodies[number], str(number)) for number in numbers]


def test_a_server_that_is_gone_is_told(require: Callable[[str], str], tmp_path: Path):
    require("wrk")
    with pytest.raises(OSError, match="wrk: unable to connect"):
        wrk.drive(f"http://127.0.0.1:{free_port()}/", Upload(b"body", "image/png"), 1, 1, tmp_path)
