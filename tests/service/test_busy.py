"""What comes while the event loop is busy: a server is stopped until there is more to take than a turn of it takes."""

import json
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from tests.service.pictures import b64, check, pixels, png
from tests.service.served import Served, Servers, stopped, until
from tests.service.wire import Wire, get, post

TIMEOUT_S = 4.0
REQUESTS, IMAGES = 60, 300  # 18,000 images take several turns to decode, and a request fits into a socket's buffer


@pytest.fixture(scope="module")
def busy_server(serve_module: Servers, repository: Path) -> Served:
    """One process that speaks HTTP, and takes large requests."""
    limits = ("--max-images-per-request", str(IMAGES), "--queue-capacity", str(2 * REQUESTS * IMAGES))
    timeouts = [f"--{what}-timeout={TIMEOUT_S}" for what in ("header", "body", "keep-alive")]
    flags = ("--model-repository", repository, "--default-model", "plain", "--api-processes", "1", "--workers", "1")
    return serve_module(*flags, *limits, *timeouts).ready()


@contextmanager
def busy(served: Served) -> Iterator[None]:
    """What is sent here comes behind many large requests."""
    body = json.dumps({"images": [b64(png())] * IMAGES}).encode()
    with ExitStack() as stack:
        wires = [stack.enter_context(Wire(served.address)) for _ in range(REQUESTS)]
        for wire in wires:
            wire.send(get("/livez"))
            assert wire.answer().status == 200
        with stopped(*served.api_processes()):
            for wire in wires:
                wire.send(post(body, "/predict", "Content-Type: application/json"))
            yield
        assert {wire.answer().status for wire in wires} == {200}


def let_timers_end() -> None:
    """Wait for longer than any timeout of the server."""
    end = time.monotonic() + TIMEOUT_S * 1.1
    until(lambda: time.monotonic() > end, "its timeouts to pass")


@pytest.mark.parametrize("part", [30, -5], ids=["headers", "body"])
def test_what_has_come_in_time_is_not_called_late(busy_server: Served, part: int) -> None:
    request = post(png())
    with Wire(busy_server.address) as wire:
        wire.send(request[:part])
        assert busy_server.status("/livez") == 200  # so that part has been taken, and its time runs
        with busy(busy_server):
            wire.send(request[part:])
            let_timers_end()
        answer = wire.answer()
        assert answer.status == 200, answer.body
        check(json.loads(answer.body), pixels())


def test_a_connection_is_not_idle_when_a_request_has_come(busy_server: Served) -> None:
    with Wire(busy_server.address) as wire:
        wire.send(post(png()))
        assert wire.answer().status == 200
        with busy(busy_server):
            wire.send(post(png(1)))
            let_timers_end()
        check(json.loads(wire.answer().body), pixels(1))


def test_a_deadline_that_passes_before_the_request_is_taken_is_504(busy_server: Served) -> None:
    with Wire(busy_server.address) as wire:
        wire.send(get("/livez"))
        assert wire.answer().status == 200
        with busy(busy_server):
            wire.send(post(png(), "/predict", "X-Request-Timeout-Ms: 5"))
        answer = wire.answer()
    assert (answer.status, json.loads(answer.body)["code"]) == (504, "deadline_exceeded")
