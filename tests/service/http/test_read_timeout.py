"""Clients that are late, idle, or put off by a server that has no time: who waits, and who is closed."""

import asyncio
import math
import socket
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from io import BytesIO

import pytest
from uvicorn.server import ServerState

from models.artifact.artifact import Artifact
from service.http.connection_state import BODY, CLOSING, IDLE
from service.http.protocol import PredictionProtocol
from service.http.read_timeout import ReadTimeout
from tests.service.http.played_connection import (
    CHUNKED,
    DELETE,
    EXPECT,
    GARBAGE,
    GOOD,
    LIVEZ,
    SHORT_S,
    UNKNOWN,
    Connection,
    Overloaded,
    Server,
    serve,
)
from tests.service.prediction.played import BYTES
from tests.service.served import until
from tests.service.wire import get, post, read_answer

INDEX = get("/v2/repository/index", "Content-Length: 2", method="POST")
CHUNKED_INDEX = get("/v2/repository/index", "Transfer-Encoding: chunked", method="POST")
LATE = {
    "one byte": (GOOD[:1], [408]),
    "half the headers": (GOOD[:30], [408]),
    "half the body": (GOOD[:-10], [408]),
    "the body of a refused request": (DELETE[:-10], [405]),
    "the headers of a second request": (UNKNOWN + GOOD[:30], [404, 408]),
    "the body of a question, which is answered": (get("/livez", "Content-Length: 3"), [200]),
    "the body of a question that is read": (INDEX + b"{", [408]),
    "the body of a second one": (LIVEZ + INDEX + b"{", [200, 408]),
    "what is a chunk of such a body": (CHUNKED_INDEX + b"no chunk\r\n", [400]),
}


@pytest.mark.parametrize(("data", "statuses"), LATE.values(), ids=LATE.keys())
def test_what_does_not_come_in_time_ends_the_connection(
    artifact: Artifact, monkeypatch: pytest.MonkeyPatch, data: bytes, statuses: list[int]
) -> None:
    """With one response, and what comes later is ignored."""
    monkeypatch.setattr("service.http.connection.LINGER_S", SHORT_S)

    async def scene(server: Server) -> None:
        connection = server.connect().send(data)
        await connection.transport.over.wait()
        assert connection.statuses() == statuses
        connection.send(GOOD, GARBAGE)
        while not connection.transport.closing:  # the client does not close its side
            await asyncio.sleep(0)
        assert connection.statuses() == statuses
        connection.leave()

    serve(scene, artifact, header_timeout=SHORT_S, body_timeout=SHORT_S)


def test_what_is_done_without_its_body_is_answered_as_it_ends_and_counted_once(artifact: Artifact) -> None:
    async def scene(server: Server) -> None:
        begun, done = asyncio.Event(), asyncio.Event()

        @server.config.app.post("/change")
        async def change() -> None:
            begun.set()
            await done.wait()

        connection = server.connect().send(get("/change", "Content-Length: 2", method="POST"))
        await begun.wait()
        late = server.connect().send(GOOD[:-5])  # whose time is over after that one's
        await late.transport.over.wait()
        assert (connection.statuses(), connection.transport.closing) == ([], False)
        done.set()
        await connection.transport.over.wait()
        assert connection.statuses() == [200]
        changed = {"route": "", "method": "POST"}
        assert [server.process.count("http_requests_total", **changed, code=code) for code in ("200", "408")] == [1, 0]
        for one in (connection, late):
            one.leave()

    serve(scene, artifact, body_timeout=SHORT_S)


@pytest.mark.parametrize("cut", [30, -5], ids=["in the headers", "in the body"])
def test_what_came_in_time_is_not_called_late_afterwards(artifact: Artifact, cut: int) -> None:
    """A client that begins later is late before anything happens to one that is through."""

    async def scene(server: Server) -> None:
        connection = await server.connect().send(GOOD[:cut], GOOD[cut:]).rest()
        late = server.connect().send(GOOD[:cut])
        await late.transport.over.wait()
        assert (connection.state, connection.statuses()) == (IDLE, [200])
        assert not connection.transport.closing
        await connection.send(GOOD[:cut]).transport.over.wait()  # the next has a time of its own
        assert connection.statuses() == [200, 408]
        for one in (connection, late):
            one.leave()

    serve(scene, artifact, header_timeout=SHORT_S, body_timeout=SHORT_S)


def test_a_client_that_waits_for_100_and_is_refused_may_send_its_body_or_not(artifact: Artifact) -> None:
    """It is told that the connection closes, as what comes next might be either (RFC 9110, 10.1.1)."""

    async def scene(server: Server) -> None:
        waiting, sending = (server.connect().send(post(bytes(BYTES), "/predict", EXPECT)[:-BYTES]) for _ in range(2))
        sending.send(bytes(BYTES))
        while sending.state is BODY:  # so much is parsed in several turns
            await asyncio.sleep(0)
        assert (sending.state, sending.transport.closing) == (CLOSING, True)
        await waiting.transport.over.wait()
        for one in (waiting, sending):
            (answer,) = one.answers()
            assert (answer.status, answer.headers["connection"]) == (413, "close")
            one.leave()

    serve(scene, artifact, body_timeout=SHORT_S)


@pytest.mark.parametrize("before", [[], [UNKNOWN], [GOOD]], ids=["new", "after a refusal", "after a prediction"])
def test_an_idle_connection_is_closed_without_a_response(artifact: Artifact, before: list[bytes]) -> None:
    async def scene(server: Server) -> None:
        connection = server.connect()
        for message in before:
            await connection.send(message).rest()
        answered = len(connection.transport.written)
        await connection.transport.over.wait()
        assert connection.transport.closing
        assert len(connection.transport.written) == answered
        connection.leave()

    serve(scene, artifact, keep_alive_timeout=SHORT_S)


def test_what_gives_way_is_closed_unless_a_request_comes_after_all(artifact: Artifact) -> None:
    async def scene(server: Server) -> None:
        idle, asking = server.connect(), server.connect()
        for connection in (idle, asking):
            connection.protocol.give_way()
        asking.send(GOOD)
        assert idle.protocol.idle_since_s < asking.protocol.idle_since_s == math.inf
        await idle.transport.over.wait()
        await asking.rest()
        assert asking.statuses() == [200]
        assert not asking.transport.closing
        asking.protocol.give_way()
        await asking.transport.over.wait()
        for connection in (idle, asking):
            connection.leave()

    serve(scene, artifact)


def test_a_connection_whose_answer_is_due_is_not_idle(artifact: Artifact) -> None:
    """It outlasts another connection, which is."""

    async def scene(server: Server) -> None:
        busy, idle = server.connect().send(GOOD), server.connect()
        await idle.transport.over.wait()
        assert not busy.transport.closing
        await busy.rest()
        assert busy.statuses() == [200]
        for connection in (busy, idle):
            connection.leave()

    serve(scene, artifact, keep_alive_timeout=SHORT_S)


def test_nor_is_one_whose_question_takes_longer(artifact: Artifact) -> None:
    async def scene(server: Server) -> None:
        done = asyncio.Event()

        @server.config.app.get("/slow")
        async def slow() -> None:
            await done.wait()

        busy, idle = server.connect().send(get("/slow")), server.connect()
        await idle.transport.over.wait()
        assert not busy.transport.closing
        done.set()
        await busy.rest()
        assert busy.statuses() == [200]
        for connection in (busy, idle):
            connection.leave()

    serve(scene, artifact, keep_alive_timeout=SHORT_S)


@pytest.mark.parametrize("message", [GOOD, CHUNKED], ids=["plain", "in chunks"])
def test_each_body_has_its_time_from_its_own_beginning(artifact: Artifact, message: bytes) -> None:
    async def scene(server: Server) -> None:
        connection = await server.connect().send(message[:-5], message[-5:]).rest()
        late = server.connect().send(message[:-5])
        await late.transport.over.wait()
        now_ns = time.monotonic_ns()
        connection.send(message[:-5])
        pace = connection.protocol._pace
        assert pace
        assert pace.latest_ns > now_ns
        for one in (connection, late):
            one.leave()

    serve(scene, artifact, body_timeout=SHORT_S)


@pytest.mark.parametrize("cut", [1, 30, -5], ids=["one byte", "half the headers", "in the body"])
def test_data_that_is_put_off_has_come_in_time(artifact: Artifact, cut: int) -> None:
    """It waits for another turn for as long as the client has, and longer; nor is the connection idle meanwhile."""

    async def scene(server: Server) -> None:
        connection = server.connect().send(GOOD[:cut])
        connection.protocol._budget = budget = Overloaded(lambda: 0)
        connection.send(GOOD[cut:])
        until(lambda: time.monotonic_ns() > budget.arrived_ns + 2e9 * SHORT_S, "the client's time to pass")
        await connection.rest()
        while not connection.transport.written:
            await connection.rest()
            await asyncio.sleep(0)
        assert connection.statuses() == [200]
        connection.leave()

    serve(scene, artifact, header_timeout=SHORT_S, body_timeout=SHORT_S, keep_alive_timeout=SHORT_S)


class Stuck(Overloaded):
    """Takes no data at all until it is let."""

    let = False

    def _end(self) -> None:
        if self.let:
            super()._end()
        else:
            self._loop.call_soon(self._end)


@pytest.mark.parametrize("cut", [0, 1, 30, -5], ids=["nothing", "one byte", "half the headers", "in the body"])
def test_nor_is_it_late_if_it_waits_turn_after_turn(artifact: Artifact, cut: int) -> None:
    """A client that sends no more, and began later, is late meanwhile."""

    async def scene(server: Server) -> None:
        connection, late = server.connect(), server.connect()
        if cut:
            connection.send(GOOD[:cut])
            late.send(GOOD[:cut])
        connection.protocol._budget = budget = Stuck(lambda: 0)
        connection.send(GOOD[cut:])
        await late.transport.over.wait()
        assert not connection.transport.over.is_set()
        budget.let = True
        await answered(connection)
        assert connection.statuses() == [200]
        for one in (connection, late):
            one.leave()

    serve(scene, artifact, header_timeout=SHORT_S, body_timeout=SHORT_S, keep_alive_timeout=SHORT_S)


@asynccontextmanager
async def reached(server: Server) -> AsyncIterator[tuple[PredictionProtocol, socket.socket]]:
    """A connection that the loop reads from the kernel, and its client's end."""
    ours, client = socket.socketpair()
    client.setblocking(False)
    _, protocol = await asyncio.get_running_loop().connect_accepted_socket(
        lambda: PredictionProtocol(config=server.config, server_state=ServerState(), app_state={}), ours
    )
    with client:
        yield protocol, client
    while not protocol.transport.is_closing():
        await asyncio.sleep(0)
    await asyncio.sleep(0)


async def while_another_is_read(act: Callable[[], object]) -> None:
    """Act in the midst of a turn, which then lasts for longer than a client has."""
    over = asyncio.Event()

    class Other(asyncio.Protocol):
        def data_received(self, data: bytes) -> None:
            del data
            act()
            end_s = time.monotonic() + 3 * SHORT_S
            until(lambda: time.monotonic() > end_s, "the client's time to pass")
            over.set()

    ours, client = socket.socketpair()
    with client:
        transport, _ = await asyncio.get_running_loop().connect_accepted_socket(Other, ours)
        client.send(b"1")
        await over.wait()
    transport.close()


async def read_statuses(client: socket.socket, count: int) -> list[int]:
    """Of so many answers, or of fewer if the connection closes."""
    stream, read = BytesIO(), b"-"
    while read and stream.getvalue().count(b"HTTP/1.1 ") < count:
        stream.write(read := await asyncio.get_running_loop().sock_recv(client, 1 << 16))
    stream.seek(0)
    return [read_answer(stream).status for _ in range(count)]


@pytest.mark.parametrize("cut", [30, -1], ids=["half the headers", "in the body"])
def test_what_came_in_time_is_read_before_its_time_ends(artifact: Artifact, cut: int) -> None:
    """The turn is so long that the time is over before the loop reads again, and it calls its timers first."""

    message = post(b"no picture")

    async def scene(server: Server) -> None:
        async with reached(server) as (protocol, client):

            def begin_and_end() -> None:
                protocol.data_received(message[:cut])
                client.send(message[cut:])

            await while_another_is_read(begin_and_end)
            assert await read_statuses(client, 1) == [415]

    serve(scene, artifact, header_timeout=SHORT_S, body_timeout=SHORT_S)


def test_an_idle_connection_is_read_before_its_time_ends(artifact: Artifact) -> None:
    async def scene(server: Server) -> None:
        async with reached(server) as (protocol, client):
            protocol.data_received(UNKNOWN[:30])  # not idle until the turn

            def end_and_ask() -> None:
                protocol.data_received(UNKNOWN[30:])
                client.send(UNKNOWN)

            await while_another_is_read(end_and_ask)
            assert await read_statuses(client, 2) == [404, 404]

    serve(scene, artifact, keep_alive_timeout=SHORT_S)


def test_a_body_has_no_longer_than_its_request(artifact: Artifact) -> None:
    async def scene(server: Server) -> None:
        connection = server.connect().send(GOOD[:-10])
        await connection.transport.over.wait()
        assert connection.statuses() == [408]
        connection.leave()

    serve(scene, artifact, request_timeout=SHORT_S, body_timeout=3600)


async def answered(connection: Connection) -> None:
    """Turn the loop until the client has something to read."""
    while not connection.transport.written:
        await connection.rest()
        await asyncio.sleep(0)


def test_pieces_that_are_put_off_keep_their_order_and_no_more_is_read_behind_two(artifact: Artifact) -> None:
    async def scene(server: Server) -> None:
        connection = server.connect()
        connection.protocol._budget = Overloaded(lambda: 0)
        reading = []
        for piece in (GOOD[:9], GOOD[9:-5], GOOD[-5:]):
            connection.send(piece)
            reading.append(connection.transport.reading)
        assert reading == [True, False, False]
        await answered(connection)
        assert (connection.statuses(), connection.transport.reading) == ([200], True)
        connection.leave()

    serve(scene, artifact)


@pytest.mark.parametrize(
    ("data", "statuses"), [(GOOD, [200]), (LIVEZ, [200]), (GOOD[:-5], [])], ids=["prediction", "question", "half"]
)
def test_a_client_that_ends_its_side_behind_what_is_put_off_has_its_answer(
    artifact: Artifact, data: bytes, statuses: list[int]
) -> None:
    """And if its request is not whole, the connection closes."""

    async def scene(server: Server) -> None:
        connection = server.connect()
        connection.protocol._budget = Overloaded(lambda: 0)
        connection.send(data[:9], data[9:])
        assert connection.end()
        if statuses:
            await answered(connection)
            await connection.rest()
        await connection.transport.over.wait()
        assert connection.statuses() == statuses
        connection.leave()

    serve(scene, artifact)


def test_a_time_that_is_started_anew_ends_once() -> None:
    async def scene() -> None:
        ended: list[str] = []
        timeout, over = ReadTimeout(), asyncio.Event()
        timeout.start(0, lambda: ended.append("the first"))
        timeout.start(0, over.set)
        await over.wait()
        assert (ended, timeout.runs) == ([], False)

    asyncio.run(scene())
