"""Nothing that a client sends may become the server's fault, or stay in its memory."""

import os
import socket
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from tests.faults.hostile import bodies, files
from tests.service.served import DEADLINE_S, Served, Servers, resident_bytes, until
from tests.service.wire import Wire, get

COUNT = int(os.environ.get("RESNET_TEST_HOSTILE", "1000"))  # `make soak` sends 10,000
HARMLESS = {200, 400, 413, 415, 422}
GROWTH_BYTES = 32 << 20  # that allocators may keep after the first round


def resident(served: Served) -> int:
    """Bytes that the server's processes hold in memory."""
    return sum(map(resident_bytes, served.processes()))


def send_all(served: Served, count: int, seed: int) -> Counter[int]:
    """Every body once, over four connections; how often each status came."""
    limits = httpx.Limits(max_connections=4)
    with httpx.Client(base_url=served.url, timeout=DEADLINE_S, limits=limits) as client, ThreadPoolExecutor(4) as pool:
        return Counter(pool.map(lambda body: client.post("/predict", content=body).status_code, bodies(count, seed)))


@pytest.mark.slow
def test_hostile_bodies_are_the_clients_fault_and_leave_nothing_behind(serve: Servers) -> None:
    served = serve("--workers", "1", "--max-pixels", "10000000").ready()
    first = send_all(served, COUNT // 2, seed=1)
    before = resident(served)
    second = send_all(served, COUNT - COUNT // 2, seed=2)
    assert set(first | second) <= HARMLESS
    assert second[422] > second.total() / 10, f"the damage is not seen: {second}"
    assert resident(served) - before < GROWTH_BYTES
    samples = served.metrics()
    assert samples["resnet_inflight_requests"] == 0
    assert sum(value for name, value in samples.items() if name.startswith("resnet_worker_restarts")) == 0


def test_sound_files_of_every_kind_are_answered(serve: Servers) -> None:
    served = serve("--workers", "1").ready()
    with httpx.Client(base_url=served.url, timeout=DEADLINE_S) as client:
        assert {client.post("/predict", content=data).status_code for data in files(0)} == {200}


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\nshort", 408),
        (b"POST /predict HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nshort\r\n", 408),
        (b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nmuch more than five", 415),
        (b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Length: -5\r\n\r\nhello", 400),
        (b"POST /predict HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", 400),
        (b"POST /predict HTTP/1.1\r\n" + b"X: y\r\n" * 50_000, 431),
    ],
    ids=["body too short", "chunks that stop", "body too long", "negative length", "no chunk", "headers without end"],
)
def test_a_body_that_is_not_as_announced_is_one_error_of_the_client_and_the_end(
    serve: Servers, request_: bytes, status: int
) -> None:
    served = serve("--workers", "1", "--body-timeout", "0.5", "--header-timeout", "0.5").ready()
    with socket.create_connection(served.address, timeout=DEADLINE_S) as wire:
        wire.sendall(request_)
        answer = b"".join(iter(lambda: wire.recv(65_536), b""))
    assert answer.startswith(b"HTTP/1.1 %d " % status)
    assert answer.count(b"HTTP/1.1 ") == 1
    assert served.status("/readyz") == 200
    assert served.metrics()["resnet_inflight_requests"] == 0


def test_chunks_without_end_are_413_and_then_cut_off(serve: Servers) -> None:
    served = serve("--workers", "1", "--max-body-bytes", "100000", "--body-timeout", "0.5").ready()
    chunk = b"ffff\r\n" + bytes(0xFFFF) + b"\r\n"
    with Wire(served.address) as wire, ThreadPoolExecutor(1) as pool:
        wire.send(get("/predict", "Transfer-Encoding: chunked", method="POST"))
        answer = pool.submit(wire.answer)
        with pytest.raises((BrokenPipeError, ConnectionResetError)):
            until(lambda: wire.send(chunk), "the end of the connection")
        assert answer.result().status == 413
    assert served.metrics()["resnet_inflight_requests"] == 0
