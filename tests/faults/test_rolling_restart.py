"""Two replicas behind a load balancer as docs/operations.md configures it are restarted one after the other."""

import http.client
import socketserver
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import cast

import pytest

from tests.faults.balancer import balanced
from tests.faults.capacity import ANSWERED
from tests.faults.ledger import load
from tests.service.served import DEADLINE_S, Served, Servers, free_port, until

SEEN_IN_TIME = ("--drain-delay", "5")
KINDS = {
    "haproxy": (),
    "nginx": (),
    "caddy": SEEN_IN_TIME,
    "apache2": SEEN_IN_TIME,
    "squid": ("--listen-when-ready",),
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_rolling_restart_fails_no_request(
    kind: str, require: Callable[[str], str], serve: Servers, tmp_path: Path
) -> None:
    """Caddy, Apache and Squid do not send again what a replica refused: they have to see in time that it would."""
    flags = ("--workers", "1", "--api-processes", "1", *KINDS[kind])
    path, ports = require(kind), [free_port(), free_port()]
    replicas = [serve(*flags, port=port) for port in ports]
    for replica in replicas:
        replica.ready()
    with balanced(kind, path, tmp_path, ports) as balancer, load(cast(Served, balancer)) as ledger:
        for place, port in enumerate(ports):
            assert replicas[place].stop() == 0, replicas[place].log
            ledger.wait_for(20)
            replicas[place] = serve(*flags, port=port).ready()
            until(lambda replica=replicas[place]: replica.metrics()[ANSWERED] > 20, "the new one to get its share")
        ledger.wait_for(20)
    assert set(ledger.summary()) == {(200, "")}


BODY = b"picture"
HEAD_ALONE = threading.Event()


class Closing(socketserver.StreamRequestHandler):
    """A replica that answers once on a connection, and closes it when the head of the next request comes."""

    def handle(self) -> None:
        if b"GET" in self._head():
            self.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
            return
        self.rfile.read(len(BODY))
        self.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
        if self._head():
            HEAD_ALONE.set()

    def _head(self) -> bytes:
        lines = iter(self.rfile.readline, b"\r\n")
        return b"".join(line for line in iter(lambda: next(lines, b""), b""))


@contextmanager
def closing_replica() -> Iterator[int]:
    """Its port."""
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Closing) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever).start()
        yield server.server_address[1]
        server.shutdown()


@pytest.mark.parametrize("kind", ["haproxy", "nginx"])
def test_a_request_whose_connection_is_closed_is_sent_again(
    kind: str, require: Callable[[str], str], tmp_path: Path
) -> None:
    """The load balancer may keep a connection and use it in the moment in which a replica that ends closes it."""
    program = require(kind)
    with closing_replica() as one, closing_replica() as two, balanced(kind, program, tmp_path, [one, two]) as balancer:
        connection = http.client.HTTPConnection(*balancer.address, timeout=DEADLINE_S)
        for _ in range(6):
            HEAD_ALONE.clear()
            connection.putrequest("POST", "/predict")
            connection.putheader("Content-Length", str(len(BODY)))
            connection.endheaders()
            HEAD_ALONE.wait(0.05)  # not at all, if requests are passed on as a whole
            connection.send(BODY)
            answer = connection.getresponse()
            assert (answer.status, answer.read()) == (200, b"")
        connection.close()
