"""Clients that leave, at every point of a request's way: what they held is free again, and they are counted."""

import json
import os
import socket
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.artifacts import make_artifact
from tests.faults.conftest import HANGS
from tests.faults.hostile import bomb
from tests.service.pictures import b64, png
from tests.service.served import Served, until
from tests.service.wire import Answer, Wire, post

SLOTS = 4
BODY, HANGING = png(0), png(0, HANGS)
REQUEST = post(BODY)
HEAD = REQUEST[: -len(BODY)]
IMAGES, CLASSES = 64, 1000  # their probabilities are an answer of megabytes

INFLIGHT = "resnet_inflight_requests"
HUNG = 'resnet_worker_restarts_total{reason="hang"}'
TICKS_S = os.sysconf("SC_CLK_TCK")
LISTENS = "0A"  # as net/tcp has it


@pytest.fixture(scope="module")
def served(repository: Path) -> Iterator[Served]:
    """A server with slots, and with room for bodies, for four requests."""
    room = (
        "--api-processes",
        "1",
        "--queue-capacity",
        str(SLOTS),
        "--max-bytes-in-flight",
        str(SLOTS * max(len(BODY), len(HANGING))),
    )
    with Served("--model-repository", repository, "--default-model", "faulty", "--workers", "1", *room) as served:
        yield served.ready()
        assert served.stop() == 0, served.log


def connections(served: Served) -> int:
    """How many the server has accepted and not closed (proc(5), net/tcp: then there is an inode)."""
    port = f":{served.address[1]:04X}"
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return sum(row[1].endswith(port) and row[3] != LISTENS and row[9] != "0" for row in rows)


def cancelled(served: Served) -> float:
    """Requests whose clients left before the answer, of whatever model."""
    counts = served.metrics().items()
    return sum(n for series, n in counts if series.startswith("resnet_requests_total{") and "cancelled" in series)


def cpu_s(pid: int) -> float:
    """CPU time that a process has used (proc(5), stat)."""
    return sum(map(int, Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:13])) / TICKS_S


def enter(served: Served, data: bytes, count: int = SLOTS) -> list[Wire]:
    """So many connections on which this has been sent, once the server has accepted them all."""
    wires = [Wire(served.address) for _ in range(count)]
    for wire in wires:
        wire.send(data)
    until(lambda: connections(served) >= count, "the connections")
    return wires


def answer_to(served: Served, data: bytes) -> Answer:
    """The answer on a connection of its own."""
    with Wire(served.address) as wire:
        wire.send(data)
        return wire.answer()


def leave(wires: list[Wire], *, abruptly: bool) -> None:
    """Close, or break off without a word, as a machine does that is switched off and on again (tcp(7), SO_LINGER)."""
    for wire in wires:
        if abruptly:
            wire.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        wire.close()


def free_slots(served: Served) -> int:
    """How many requests the server takes at a time, of one more than it should; it works on none meanwhile."""
    before = served.metrics()
    with served.paused():
        wires = enter(served, REQUEST, SLOTS + 1)

        def arrived() -> float:
            after, full = served.metrics(), 'resnet_requests_shed_total{reason="full"}'
            return after[INFLIGHT] + after[full] - before[full]

        until(lambda: arrived() == SLOTS + 1, "all to be let in or refused")
    statuses = [wire.answer().status for wire in wires]
    leave(wires, abruptly=False)
    return statuses.count(200)


def await_calm(served: Served) -> None:
    """Wait until all that was held is free: connections, slots, bytes."""
    until(lambda: connections(served) == 0, "the last connection to be closed")
    until(lambda: free_slots(served) == SLOTS, "all slots")
    until(lambda: connections(served) == 0, "the last connection to be closed")
    assert served.metrics()[INFLIGHT] == 0


@pytest.mark.parametrize("abruptly", [False, True], ids=["closed", "reset"])
@pytest.mark.parametrize(
    ("sent", "counted"),
    [(b"", 0), (REQUEST[:10], 0), (HEAD, SLOTS), (REQUEST[:-5], SLOTS)],
    ids=["connected", "in the headers", "after the headers", "in the body"],
)
def test_before_the_request_is_complete(served: Served, sent: bytes, counted: int, *, abruptly: bool) -> None:
    before = cancelled(served)
    wires = enter(served, sent)
    until(lambda: served.metrics()[INFLIGHT] == counted, "the headers")
    leave(wires, abruptly=abruptly)
    await_calm(served)
    assert cancelled(served) - before == counted


@pytest.mark.parametrize("abruptly", [False, True], ids=["closed", "reset"])
def test_while_the_worker_stands_still(served: Served, *, abruptly: bool) -> None:
    before = cancelled(served)
    with served.paused():
        wires = enter(served, REQUEST)
        until(lambda: served.metrics()[INFLIGHT] == SLOTS, "all to wait")
        leave(wires, abruptly=abruptly)
        until(lambda: cancelled(served) - before == SLOTS, "the server to notice")
    await_calm(served)
    assert cancelled(served) - before == SLOTS


def test_while_images_are_decoded(repository: Path) -> None:
    """One after the other, each for as long as it takes to unpack 49 million pixels."""
    room = ("--api-processes", "1", "--queue-capacity", str(SLOTS), "--decode-threads", "1")
    with Served("--model-repository", repository, "--default-model", "faulty", "--workers", "1", *room) as served:
        wires = enter(served.ready(), post(bomb(7000, 7000)))
        until(lambda: served.metrics()[INFLIGHT] > 0, "some to be let in")
        leave(wires, abruptly=False)
        until(lambda: connections(served) == 0, "the last connection to be closed")
        assert cancelled(served) > 0, "all were decoded too soon"
        await_calm(served)
        assert served.stop() == 0, served.log


def test_while_inference_runs_and_others_wait_behind_it(served: Served) -> None:
    """What it holds comes back when its worker is dead: until then that might still write there."""
    before, gone, worker = served.metrics(), cancelled(served), served.worker()
    burnt_s = cpu_s(worker)
    wires = enter(served, post(HANGING), 1)
    until(lambda: cpu_s(worker) - burnt_s > 0.1, "the engine at work")
    wires += enter(served, REQUEST, SLOTS - 1)
    until(lambda: served.metrics()[INFLIGHT] == SLOTS, "the others")
    leave(wires, abruptly=False)
    until(lambda: cancelled(served) - gone == SLOTS, "the server to notice")
    until(lambda: served.metrics()[HUNG] > before[HUNG], "the worker to be ended")
    until(lambda: answer_to(served, REQUEST).status == 200, "another worker")
    await_calm(served)
    assert served.metrics()[HUNG] - before[HUNG] == 1, "what no client waits for was tried again"


def wordy(tmp_path: Path, *headers: str) -> bytes:
    """A request to a model whose answer is larger than what the kernel takes for a client that does not read."""
    if not (tmp_path / "wordy").exists():
        make_artifact(tmp_path, "wordy", labels=tuple(f"class {i} of {CLASSES}" for i in range(CLASSES)))
    body = json.dumps({"images": [b64(png(seed)) for seed in range(IMAGES)]}).encode()
    return post(body, f"/predict?top_k={CLASSES}", "Content-Type: application/json", *headers)


def test_in_the_middle_of_the_answer(tmp_path: Path) -> None:
    request = wordy(tmp_path)
    room = ("--api-processes", "1", "--queue-capacity", str(IMAGES), "--max-bytes-in-flight", str(len(request)))
    with Served("--model-repository", tmp_path, "--workers", "1", *room) as served:
        served.ready()
        for _ in range(3):
            (wire,) = enter(served, request, 1)
            assert wire.socket.recv(1)
            wire.close()
            until(lambda: connections(served) == 0, "its end")
        with Wire(served.address) as wire:
            wire.send(request)
            answer = wire.answer()
        assert answer.status == 200
        assert len(answer.body) > 4 << 20
        samples = served.metrics()
    assert samples[INFLIGHT] == 0
    assert sum(value for series, value in samples.items() if series.startswith("resnet_requests_total")) == 4


@pytest.mark.parametrize("headers", [(), ("Connection: close",)], ids=["kept", "to be closed"])
def test_a_client_that_does_not_read_its_answer_is_let_go_like_an_idle_connection(
    tmp_path: Path, headers: tuple[str, ...]
) -> None:
    request = wordy(tmp_path, *headers)
    with Served("--model-repository", tmp_path, "--workers", "1", "--keep-alive-timeout", "0.5") as served:
        served.ready()
        with Wire(served.address) as wire:
            wire.send(request)
            assert wire.socket.recv(1)
            until(lambda: connections(served) == 0, "the server to let go")
