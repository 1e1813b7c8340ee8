from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from PIL import Image

from benchmarks.soak.clients import Clients, bad_asks, good_asks
from tests.benchmarks.conftest import Handler, Respond
from tests.models.images.pictures import encode
from tests.service.served import until

Start = Callable[[Respond], int]


@pytest.fixture(scope="module")
def digit() -> bytes:
    return encode(Image.new("L", (28, 28), 40))


@contextmanager
def asking(port: int, digit: bytes) -> Iterator[Clients]:
    clients = Clients(f"http://127.0.0.1:{port}", digit)
    clients.start()
    try:
        yield clients
    finally:
        clients.stop()


def test_what_must_be_is_provoked(http_server: Start, digit: bytes):
    statuses = {(ask.path, ask.body): ask.status for ask in (*good_asks(digit), *bad_asks(digit))}
    port = http_server(lambda handler, body: handler.answer(statuses.get((handler.path, body), 200)))
    every = {"good 200", "bad 400", "bad 404", "bad 415", "bad 422", "probe 200", "leaving left"}
    with asking(port, digit) as clients:
        until(lambda: set(clients.provoked) == every, "every kind of answer")
    assert not clients.unprovoked
    good_s, probe_s = clients.take()
    assert len(good_s) == clients.provoked["good 200"]
    assert len(probe_s) == clients.provoked["probe 200"]
    assert min(*good_s, *probe_s) > 0
    assert clients.take() == ([], [])


def test_all_else_is_not(http_server: Start, digit: bytes):
    def fail(handler: Handler, body: bytes) -> None:
        if body == digit:
            handler.close_connection = True
        else:
            handler.answer(500)

    with asking(http_server(fail), digit) as clients:
        wrong = {"good 500", "good RemoteProtocolError", "bad 500", "bad RemoteProtocolError", "probe 500"}
        until(lambda: set(clients.unprovoked) == wrong, "every kind of failure")
    assert set(clients.provoked) <= {"leaving left"}
