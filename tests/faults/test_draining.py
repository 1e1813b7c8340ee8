"""What clients see of a drain: of one that is too short, and of connections that come in its first moment."""

import json
import os
import signal
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import httpx
from PIL import Image

from tests.faults.ledger import GOOD
from tests.models.images.pictures import encode
from tests.service.pictures import png
from tests.service.served import DEADLINE_S, Served, Servers, until
from tests.service.wire import Answer, Wire, post

SIDE, HUGE = 7000, 60  # pixels of pictures whose decoding takes long, and how many together take longer than a drain
PIPELINE = 200  # connections that wait to be accepted


def huge() -> bytes:
    """A PNG of few bytes that takes long to decode."""
    return encode(Image.new("L", (SIDE, SIDE)))


def inflight(served: Served, n: int) -> bool:
    return served.metrics()["resnet_inflight_requests"] == n


def answer_and_close(wire: Wire) -> Answer:
    with wire:
        return wire.answer()


def test_everything_that_is_held_at_the_end_of_the_grace_period_is_told_so(serve: Servers) -> None:
    flags = ("--workers", "1", "--api-processes", "1", "--decode-threads", "1", "--max-request-timeout", "600")
    served = serve(*flags, "--grace", "2").ready()
    picture = huge()
    files = [("file", (f"{i}.png", picture, "image/png")) for i in range(HUGE)]
    headers = {"X-Request-Timeout-Ms": "600000"}
    with ThreadPoolExecutor(2) as pool, Wire(served.address) as half:
        half.send(post(png())[:-1])
        until(lambda: inflight(served, 1), "a body that never ends")
        answer = pool.submit(httpx.post, served.url + "/predict", files=files, headers=headers, timeout=DEADLINE_S)
        until(lambda: inflight(served, 2), "a request that waits for decoding")
        cut = pool.submit(answer_and_close, half)  # at once: the server waits for that
        assert served.stop() == 1
        told = [json.loads(cut.result().body), answer.result().json()]
    assert [(one["status"], one["reason"]) for one in told] == [(503, "draining")] * 2
    assert served.events("drain cut short", refused=2)
    assert served.events("stopped", exit_code=1, requests_lost=0)


def test_connections_that_nobody_had_accepted_when_the_signal_came_are_answered(serve: Servers) -> None:
    served = serve("--workers", "1", "--api-processes", "1", "--grace", "60").ready()
    (api,) = served.api_processes()
    os.kill(api, signal.SIGSTOP)
    wires = [Wire(served.address) for _ in range(PIPELINE)]
    for seed, wire in enumerate(wires):
        wire.send(post(png(seed % 10)))
    served.signal(signal.SIGTERM)
    served.wait_for_event("stopping")
    os.kill(api, signal.SIGCONT)
    assert Counter(wire.answer().status for wire in wires) == {200: PIPELINE}
    for wire in wires:
        wire.close()
    assert served.wait() == 0, served.log


def test_no_client_that_connects_anew_for_each_request_is_dropped(serve: Servers) -> None:
    served = serve("--workers", "1", "--api-processes", "2").ready()
    endings, picture, refused = Counter[str](), png(3, GOOD), threading.Event()

    def send() -> None:
        while not refused.is_set():
            try:
                wire = Wire(served.address)
            except ConnectionRefusedError:
                refused.set()
                return
            try:
                wire.send(post(picture, "/predict", "Connection: close"))
                endings[str(wire.answer().status)] += 1
            except (OSError, ValueError, AssertionError) as error:
                endings[repr(error)] += 1
            wire.close()

    with ThreadPoolExecutor(16) as pool:
        for _ in range(16):
            pool.submit(send)
        until(lambda: endings["200"] > 50, "good answers")
        assert served.stop() == 0, served.log
    assert set(endings) == {"200"}
