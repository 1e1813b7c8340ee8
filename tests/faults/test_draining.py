"""What clients see of a drain: of one that is too short, and of connections that come in its first moment."""

import io
import json
import os
import signal
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import httpx
import numpy as np
from PIL import Image

from tests.faults.ledger import GOOD
from tests.service.pictures import png
from tests.service.served import DEADLINE_S, Served, Servers, until
from tests.service.wire import Wire, post

SIDE = 6000  # pixels of a picture whose decoding takes long
PIPELINE = 200  # connections that wait to be accepted


def large() -> bytes:
    """A PNG of noise: it takes a second to decode, and is several megabytes."""
    noise = np.random.default_rng(1).integers(0, 255, (SIDE, SIDE // 4), np.uint8)
    stream = io.BytesIO()
    Image.fromarray(noise).resize((SIDE, SIDE), Image.Resampling.NEAREST).save(stream, "PNG", compress_level=1)
    return stream.getvalue()


def inflight(served: Served, n: int) -> bool:
    return served.metrics()["resnet_inflight_requests"] == n


def test_everything_that_is_held_at_the_end_of_the_grace_period_is_told_so(serve: Servers) -> None:
    served = serve("--workers", "1", "--api-processes", "1", "--decode-threads", "1", "--grace", "3").ready()
    picture, waiting, url = large(), 8, served.url + "/predict"
    with served.stopped_workers(), ThreadPoolExecutor(waiting + 1) as pool, Wire(served.address) as half:
        half.send(post(picture)[:-1])
        until(lambda: inflight(served, 1), "a body that never ends")
        answers = [pool.submit(httpx.post, url, content=png(), timeout=DEADLINE_S)]
        until(lambda: inflight(served, 2), "a request in a worker")
        answers += [
            pool.submit(httpx.post, served.url + "/predict", content=picture, timeout=DEADLINE_S)
            for _ in range(waiting)
        ]
        until(lambda: inflight(served, 2 + waiting), "requests that wait for decoding")
        assert served.stop() == 1
        bodies = [half.answer().body, *[answer.result().content for answer in answers]]
    told = Counter((body["status"], body["reason"]) for body in map(json.loads, bodies))
    assert told == {(503, "draining"): waiting + 2}
    assert served.events("drain cut short", refused=waiting + 2)
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
