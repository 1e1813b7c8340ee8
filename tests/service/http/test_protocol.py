"""One connection without a network: what comes in, in which state that leaves it, and what goes out.

Behind it are a real application, real services, and a worker that the test plays. What real sockets and real time bring
is in `test_connections`.
"""

import asyncio
import json
import socket
import time
from collections.abc import Awaitable, Callable, Iterable
from io import BytesIO
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import uvicorn
from fastapi import FastAPI
from uvicorn.server import ServerState

from models.artifact.artifact import Artifact, read_artifact
from service.errors import ServiceError, Unavailable
from service.http.connection_state import ANSWERING, BODY, CLOSING, HEAD, IDLE, LAST, ConnectionState
from service.http.hangup_watch import HangupWatch
from service.http.protocol import MAX_HEAD_BYTES, PredictionProtocol
from service.http.read_budget import ReadBudget
from service.http.routes import add_routes
from tests.artifacts import LABELS
from tests.service.prediction.played import BYTES, PlayedProcess, picture, play
from tests.service.served import until
from tests.service.wire import Answer, get, post, read_answer

SHORT_S = 0.02

LIVEZ, NOWHERE = get("/livez"), get("/nowhere")
LONG = get("/livez", "X-Long: " + "x" * (MAX_HEAD_BYTES * 2 // 3))
GOOD, OTHER = post(picture(1)), post(picture(2))
GOOD_HEAD = GOOD[: -len(picture(1))]
UNKNOWN = post(picture(1), "/predictions/zebra")  # refused when it is complete
DELETE = post(picture(1), method="DELETE")  # refused at its headers
TOO_LARGE = post(bytes(BYTES))
CONNECT = b"CONNECT server:443 HTTP/1.1\r\nHost: server:443\r\n\r\n"
GARBAGE = b"\x01\x02 this is no HTTP\r\n\r\n"
CLOSE = "Connection: close"
EXPECT = "Expect: 100-continue"
H2C = ("Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAMAAABkAAQAoAAAAAIAAAAA")
CHUNKED = get("/predict", "Transfer-Encoding: chunked", method="POST") + b"".join(
    b"%x\r\n%s\r\n" % (len(part), part) for part in (picture(1)[:20], picture(1)[20:], b"")
)


@pytest.fixture(scope="module")
def artifact(repository: Path) -> Artifact:
    return read_artifact(repository / "plain" / "2")


class Transport(asyncio.Transport):
    """Keeps what is written; the client at its other end reads all, and leaves when the test says so."""

    def __init__(self) -> None:
        self.socket, self.client = socket.socketpair()
        super().__init__({"socket": self.socket})
        self.written = bytearray()
        self.reading, self.closing, self.ended = True, False, False
        self.over = asyncio.Event()  # the server has ended its side, or closed

    def write(self, data: bytes) -> None:  # type: ignore[override]
        assert not self.ended, "written after the end"
        if not self.closing:
            self.written += data

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        self.ended = True
        self.over.set()

    def close(self) -> None:
        self.closing = True
        self.over.set()

    abort = close

    def is_closing(self) -> bool:
        return self.closing

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True

    def get_write_buffer_size(self) -> int:
        return 0


class Unhurried(ReadBudget):
    """Takes all data in the turn in which it comes, however slow this machine is now."""

    def note_arrival(self) -> bool:
        super().note_arrival()
        return True


class Overloaded(ReadBudget):
    """Takes no data in the turn in which it comes."""

    def note_arrival(self) -> bool:
        super().note_arrival()
        return False


class Server:
    """The application of one API process, to which connections can be made."""

    def __init__(self, process: PlayedProcess) -> None:
        self.process = process
        app = FastAPI()
        add_routes(app, lambda: process.api)
        app.state.api, app.state.budget = process.api, Unhurried()
        app.state.ports = SimpleNamespace(answers=lambda *_: True)
        app.state.hangups = HangupWatch()
        keep_alive_s: Any = process.settings.keep_alive_timeout
        self.config = uvicorn.Config(app, log_config=None, timeout_keep_alive=keep_alive_s, lifespan="off", ws="none")
        self.config.load()

    def connect(self) -> "Connection":
        return Connection(self)


class Connection:
    """One client."""

    def __init__(self, server: Server) -> None:
        self.process = server.process
        self.transport = Transport()
        self.protocol = PredictionProtocol(config=server.config, server_state=ServerState(), app_state={})
        self.protocol.connection_made(self.transport)

    def send(self, *pieces: bytes) -> "Connection":
        """What the client sends arrives in these pieces."""
        for piece in pieces:
            self.protocol.data_received(piece)
        return self

    @property
    def state(self) -> ConnectionState:
        return self.protocol._state

    def answers(self) -> list[Answer]:
        """What has been written, which must be whole responses."""
        stream, found = BytesIO(bytes(self.transport.written)), []
        while stream.tell() < len(self.transport.written):
            found.append(read_answer(stream))
        return found

    def statuses(self) -> list[int]:
        return [answer.status for answer in self.answers()]

    async def rest(self) -> "Connection":
        """Let the worker and the application answer all that is due."""
        while self.protocol._in_cycle or self.state in (ANSWERING, LAST):
            if message := self.process.take():
                self.process.reply(message)
            await asyncio.sleep(0)
            if self.transport.closing and not self.protocol._in_cycle:
                break
        return self

    def end(self) -> bool:
        """The client ends its sending side; whether the connection stays."""
        return self.protocol.eof_received()

    def leave(self) -> None:
        """The connection is over."""
        self.protocol.connection_lost(None)
        self.transport.socket.close()
        self.transport.client.close()


Scene = Callable[[Server], Awaitable[None]]


def serve(scene: Scene, artifact: Artifact, **settings: object) -> None:
    """Play a scene with an application; afterwards nothing may be held."""

    async def run(process: PlayedProcess) -> None:
        process.up()
        await scene(Server(process))
        assert process.is_whole()

    play(run, artifact, **settings)


# What comes in, and what that does

TRANSITIONS = {
    "nothing": ([], IDLE, []),
    "an empty line begins no request": ([b"\r\n"], IDLE, []),
    "one byte": ([GOOD[:1]], HEAD, []),
    "half the headers": ([GOOD[:30]], HEAD, []),
    "all of the headers but the last byte": ([GOOD_HEAD[:-1]], HEAD, []),
    "all of the headers": ([GOOD_HEAD], BODY, []),
    "all but one byte of the body": ([GOOD[:-1]], BODY, []),
    "a prediction": ([GOOD], ANSWERING, []),
    "a prediction in chunks": ([CHUNKED], ANSWERING, []),
    "a prediction and the first byte of another": ([GOOD + OTHER[:1]], LAST, []),
    "a prediction, and then a question": ([GOOD, LIVEZ], LAST, []),
    "a prediction that is refused when it is complete": ([UNKNOWN], IDLE, [404]),
    "the headers of a prediction that is refused at its headers": ([DELETE[:-5]], BODY, [405]),
    "a prediction that is refused at its headers": ([DELETE], IDLE, [405]),
    "the beginning of a body that is too large": ([TOO_LARGE[:500]], BODY, [413]),
    "all of a body that is too large": ([TOO_LARGE], IDLE, [413]),
    "two refused predictions": ([UNKNOWN + DELETE], IDLE, [404, 405]),
    "a refused prediction and a good one": ([UNKNOWN + GOOD], ANSWERING, [404]),
    "a refused prediction of a client that wants to close": ([post(b"x", "/predictions/zebra", CLOSE)], CLOSING, [404]),
    "garbage behind that": ([post(b"x", "/predictions/zebra", CLOSE) + GARBAGE], CLOSING, [404]),
    "a tunnel behind a prediction": ([GOOD + CONNECT], LAST, []),
    "what comes behind that": ([post(b"x", "/predictions/zebra", CLOSE) + GOOD], CLOSING, [404]),
    "a refused prediction of HTTP/1.0": ([UNKNOWN.replace(b"HTTP/1.1", b"HTTP/1.0")], CLOSING, [404]),
    "the headers of a client that waits for 100": ([post(picture(1), "/predict", EXPECT)[:-70]], BODY, [100]),
    "a client that waits for 100 and is refused": ([post(bytes(BYTES), "/predict", EXPECT)[:-BYTES]], BODY, [413]),
    "garbage": ([GARBAGE], CLOSING, [400]),
    "garbage behind garbage": ([GARBAGE, GARBAGE], CLOSING, [400]),
    "a good request behind garbage": ([GARBAGE, GOOD], CLOSING, [400]),
    "garbage behind a refused prediction": ([UNKNOWN + GARBAGE], CLOSING, [404, 400]),
    "garbage in the place of a chunk": ([CHUNKED[: CHUNKED.index(b"\r\n\r\n") + 4] + GARBAGE], CLOSING, [400]),
    "garbage behind a prediction is not read": ([GOOD + GARBAGE], LAST, []),
    "garbage behind a prediction, in pieces": ([GOOD, GARBAGE, GARBAGE], LAST, []),
    "headers without end": ([b"GET / HTTP/1.1\r\nX: " + bytes(MAX_HEAD_BYTES).replace(b"\0", b"x")], CLOSING, [431]),
    "headers without end, in pieces": (
        [b"GET / HTTP/1.1\r\nX: ", *[b"x" * 1024] * (MAX_HEAD_BYTES // 1024)],
        CLOSING,
        [431],
    ),
    "an offer of another protocol is passed over": ([post(picture(1), "/predict", *H2C)], ANSWERING, []),
    "such an offer behind a prediction": ([GOOD + post(picture(1), "/predict", *H2C)], LAST, []),
    "a tunnel": ([CONNECT], CLOSING, [501]),
    "a tunnel to a predict route": ([b"CONNECT /predict HTTP/1.1\r\nHost: x\r\n\r\n"], CLOSING, [501]),
}


@pytest.mark.parametrize(("pieces", "state", "statuses"), TRANSITIONS.values(), ids=TRANSITIONS.keys())
def test_what_comes_leaves_the_connection(
    artifact: Artifact, pieces: list[bytes], state: ConnectionState, statuses: list[int]
) -> None:
    """In this state, with responses of these statuses and no others: the worker has not answered yet."""

    async def scene(server: Server) -> None:
        connection = server.connect().send(*pieces)
        assert (connection.state, connection.statuses()) == (state, statuses)
        assert connection.transport.reading == (state is not LAST)
        assert connection.transport.over.is_set() == (state is CLOSING)
        connection.leave()
        assert connection.state is CLOSING
        if message := server.process.take():
            server.process.reply(message)
        while not server.process.is_whole():
            if message := server.process.take():
                server.process.reply(message)
            await asyncio.sleep(0)
        assert connection.statuses() == statuses, "an answer to a client that has left"

    serve(scene, artifact)


ENDS = {
    "a prediction": ([GOOD], IDLE, [200]),
    "one after the other": ([GOOD, None, OTHER], IDLE, [200, 200]),
    "a client that wants to close": ([post(picture(1), "/predict", CLOSE)], CLOSING, [200]),
    "HTTP/1.0": ([GOOD.replace(b"HTTP/1.1", b"HTTP/1.0")], CLOSING, [200]),
    "what is pipelined behind a prediction is not read": ([GOOD + OTHER + LIVEZ], CLOSING, [200]),
    "garbage behind a prediction is not read either": ([GOOD + GARBAGE], CLOSING, [200]),
    "a refused prediction, a good one, and another": ([UNKNOWN + GOOD + OTHER], CLOSING, [404, 200]),
    "a client that waited for 100": (
        [post(picture(1), "/predict", EXPECT)[:-70], post(picture(1), "/predict", EXPECT)[-70:]],
        IDLE,
        [100, 200],
    ),
    "a known head after a client that waited for 100": (
        [DELETE, post(picture(1), "/predict", EXPECT)[:-70], post(picture(1), "/predict", EXPECT)[-70:], None, DELETE],
        IDLE,
        [405, 100, 200, 405],
    ),
    "a question": ([LIVEZ], IDLE, [200]),
    "two requests with long headers, in pieces": (
        [LONG[:-9], LONG[-9:], None, LONG[:-9], LONG[-9:]],
        IDLE,
        [200, 200],
    ),
    "pipelined questions": ([LIVEZ + NOWHERE + LIVEZ], IDLE, [200, 404, 200]),
    "a question that offers another protocol": ([get("/livez", *H2C)], IDLE, [200]),
    "a prediction after a question": ([LIVEZ, None, GOOD], IDLE, [200, 200]),
    "a prediction pipelined behind a question is not read": ([LIVEZ + GOOD], LAST, [200]),
    "garbage behind a question is not read": ([LIVEZ + GARBAGE], LAST, [200]),
    "garbage behind two questions is not read": ([LIVEZ + NOWHERE + GARBAGE], LAST, [200, 404]),
    "headers without end behind a question": ([LIVEZ + LONG[:-9], b"x" * (MAX_HEAD_BYTES + 1)], LAST, [200]),
    "garbage in the body of a question": (
        [get("/livez", "Transfer-Encoding: chunked") + GARBAGE],
        LAST,
        [200],
    ),
    "a tunnel behind a question": ([LIVEZ + CONNECT], LAST, [200]),
    "garbage behind a question and a prediction": ([LIVEZ + GOOD + GARBAGE], LAST, [200]),
}


@pytest.mark.parametrize(("pieces", "state", "statuses"), ENDS.values(), ids=ENDS.keys())
def test_what_is_due_is_answered_in_order(
    artifact: Artifact, pieces: list[bytes | None], state: ConnectionState, statuses: list[int]
) -> None:
    """None stands for the time that everything takes; a connection that goes on is not said to close."""

    async def scene(server: Server) -> None:
        connection = server.connect()
        for piece in pieces:
            if piece is None:
                await connection.rest()
            else:
                connection.send(piece)
        await connection.rest()
        assert (connection.state, connection.statuses()) == (state, statuses)
        assert connection.transport.over.is_set() == (state is not IDLE)
        closes = [answer.headers.get("connection") == "close" for answer in connection.answers()]
        assert closes == [*[False] * (len(statuses) - 1), state is not IDLE]
        assert connection.transport.reading or state is LAST
        connection.leave()

    serve(scene, artifact)


# Clients that end their sending side

HALF_CLOSED: dict[str, tuple[bytes, list[int]]] = {
    "a prediction": (GOOD, [200]),
    "a prediction in chunks": (CHUNKED, [200]),
    "a prediction of HTTP/1.0": (GOOD.replace(b"HTTP/1.1", b"HTTP/1.0"), [200]),
    "a prediction after a refused one": (UNKNOWN + GOOD, [404, 200]),
    "a prediction and part of another": (GOOD + OTHER[:20], [200]),
    "a question": (LIVEZ, [200]),
    "pipelined questions": (LIVEZ + NOWHERE, [200, 404]),
}


@pytest.mark.parametrize(("data", "statuses"), HALF_CLOSED.values(), ids=HALF_CLOSED)
def test_a_client_that_ends_its_sending_side_has_its_answer_and_the_connection_closes(
    artifact: Artifact, data: bytes, statuses: list[int]
) -> None:
    async def scene(server: Server) -> None:
        connection = server.connect().send(data)
        assert connection.end()
        await connection.rest()
        await connection.transport.over.wait()
        assert connection.statuses() == statuses
        assert connection.answers()[-1].headers["connection"] == "close"
        connection.leave()

    serve(scene, artifact)


@pytest.mark.parametrize("status", [408, 500, 503, 504])
def test_whatever_the_answer_it_goes_on_where_it_has_begun(artifact: Artifact, status: int) -> None:
    async def scene(server: Server) -> None:
        connection = server.connect().send(GOOD)
        assert connection.end()
        assert connection.transport.written == b"HTTP/1.1 "
        error = next(kind for kind in ServiceError.__subclasses__() if kind.status == status)
        connection.protocol.refuse_request(error("full", "why") if error is Unavailable else error("why"))
        assert connection.statuses() == [status]
        connection.leave()

    serve(scene, artifact)


@pytest.mark.parametrize("data", [b"", GOOD[:30], GOOD[:-5], DELETE, get("/livez", "Content-Length: 3")])
def test_a_client_to_whom_nothing_is_due_has_left(artifact: Artifact, data: bytes) -> None:
    async def scene(server: Server) -> None:
        connection = server.connect().send(data)
        assert not connection.end()
        connection.leave()

    serve(scene, artifact)


def test_a_client_that_has_closed_its_socket_has_left_and_its_work_is_dropped(artifact: Artifact) -> None:
    async def scene(server: Server) -> None:
        staying, leaving = server.connect().send(GOOD), server.connect().send(GOOD)
        assert staying.end()
        assert leaving.end()
        leaving.transport.client.close()
        await leaving.transport.over.wait()
        assert leaving.transport.closing
        leaving.leave()
        assert server.process.counted("requests_total") == {("plain", "cancelled", "2"): 1}
        await staying.rest()
        assert staying.statuses() == [200]
        staying.leave()

    serve(scene, artifact)


# However it comes

CONVERSATIONS = {
    "prediction": GOOD,
    "chunked": CHUNKED,
    "unknown model and good": UNKNOWN + GOOD,
    "refused at its headers and good": DELETE + GOOD,
    "pipelined": GOOD + OTHER,
    "questions": LIVEZ + NOWHERE,
    "question and prediction": LIVEZ + GOOD,
    "question with a body": get("/livez", "Content-Length: 3") + b"abc" + LIVEZ,
    "upgrade": post(picture(1), "/predict", *H2C),
    "upgrade of a question": get("/livez", *H2C) + LIVEZ,
    "absolute target": post(picture(1), "http://server/predict"),
    "garbage": UNKNOWN + GARBAGE,
    "garbage behind": GOOD + GARBAGE,
    "empty lines": b"\r\n\r\n" + GOOD,
}


def essence(connection: Connection) -> object:
    """What must not depend on how the bytes came: all but times and ids."""
    found = []
    for answer in connection.answers():
        body: Any = answer.body.decode()
        if "json" in answer.headers["content-type"]:
            body = {key: value for key, value in json.loads(body).items() if key not in ("request_id", "timings_ms")}
        kept = {
            name: value
            for name, value in answer.headers.items()
            if name not in ("x-request-id", "server-timing", "content-length", "date")
        }
        found.append((answer.status, kept, body))
    return found, connection.state, connection.transport.over.is_set()


@pytest.mark.parametrize("data", CONVERSATIONS.values(), ids=CONVERSATIONS.keys())
def test_bytes_that_are_cut_anywhere_mean_the_same(artifact: Artifact, data: bytes) -> None:
    async def scene(server: Server) -> None:
        async def hear(*pieces: bytes) -> object:
            connection = await server.connect().send(*pieces).rest()
            heard = essence(connection)
            connection.leave()
            return heard

        whole = await hear(data)
        for cut in range(1, len(data)):
            assert await hear(data[:cut], data[cut:]) == whole, (data[:cut], data[cut:])
        assert await hear(*bytes_of(data)) == whole

    serve(scene, artifact)


def bytes_of(data: bytes) -> Iterable[bytes]:
    return (data[i : i + 1] for i in range(len(data)))


def test_requests_of_one_connection_are_answered_each_with_its_own_body(artifact: Artifact) -> None:
    async def scene(server: Server) -> None:
        connection = server.connect()
        for first in (1, 2, 3):
            await connection.send(post(picture(first))).rest()
        tops = [json.loads(answer.body)["predictions"][0]["label"] for answer in connection.answers()]
        assert tops == [LABELS[1], LABELS[2], LABELS[3]]
        connection.leave()

    serve(scene, artifact)


# Time

LATE = {
    "one byte": (GOOD[:1], [408]),
    "half the headers": (GOOD[:30], [408]),
    "half the body": (GOOD[:-10], [408]),
    "the body of a refused request": (DELETE[:-10], [405]),
    "the headers of a second request": (UNKNOWN + GOOD[:30], [404, 408]),
    "the body of a question, which is answered": (get("/livez", "Content-Length: 3"), [200]),
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


@pytest.mark.parametrize("cut", [30, -5], ids=["in the headers", "in the body"])
def test_what_came_in_time_is_not_called_late_afterwards(artifact: Artifact, cut: int) -> None:
    """A client that begins later is late before anything happens to one that is through."""

    async def scene(server: Server) -> None:
        connection = await server.connect().send(GOOD[:cut], GOOD[cut:]).rest()
        late = server.connect().send(GOOD[:cut])
        await late.transport.over.wait()
        assert (connection.state, connection.statuses()) == (IDLE, [200])
        assert not connection.transport.closing
        for one in (connection, late):
            one.leave()

    serve(scene, artifact, header_timeout=SHORT_S, body_timeout=SHORT_S)


def test_a_client_that_waits_for_100_and_is_refused_may_send_its_body_or_not(artifact: Artifact) -> None:
    """It is told that the connection closes, as what comes next might be either (RFC 9110, 10.1.1)."""

    async def scene(server: Server) -> None:
        waiting, sending = (server.connect().send(post(bytes(BYTES), "/predict", EXPECT)[:-BYTES]) for _ in range(2))
        sending.send(bytes(BYTES))
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


@pytest.mark.parametrize("cut", [1, 30, -5], ids=["one byte", "half the headers", "in the body"])
def test_data_that_is_put_off_has_come_in_time(artifact: Artifact, cut: int) -> None:
    """It waits for another turn for as long as the client has, and longer; nor is the connection idle meanwhile."""

    async def scene(server: Server) -> None:
        connection = server.connect().send(GOOD[:cut])
        connection.protocol._budget = budget = Overloaded()
        connection.send(GOOD[cut:])
        until(lambda: time.monotonic_ns() > budget.arrived_ns + 2e9 * SHORT_S, "the client's time to pass")
        await connection.rest()
        while not connection.transport.written:
            await connection.rest()
            await asyncio.sleep(0)
        assert connection.statuses() == [200]
        connection.leave()

    serve(scene, artifact, header_timeout=SHORT_S, body_timeout=SHORT_S, keep_alive_timeout=SHORT_S)


async def answered(connection: Connection) -> None:
    """Turn the loop until the client has something to read."""
    while not connection.transport.written:
        await connection.rest()
        await asyncio.sleep(0)


def test_pieces_that_are_put_off_keep_their_order_and_no_more_is_read_behind_two(artifact: Artifact) -> None:
    async def scene(server: Server) -> None:
        connection = server.connect()
        connection.protocol._budget = Overloaded()
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
        connection.protocol._budget = Overloaded()
        connection.send(data[:9], data[9:])
        assert connection.end()
        if statuses:
            await answered(connection)
            await connection.rest()
        await connection.transport.over.wait()
        assert connection.statuses() == statuses
        connection.leave()

    serve(scene, artifact)


# The end


@pytest.mark.parametrize(
    ("data", "statuses"),
    [
        (b"", []),
        (GOOD[:30], []),
        (UNKNOWN, [404]),
        (GOOD, [200]),
        (LIVEZ, [200]),
        (GOOD[:-5], [200]),
    ],
    ids=["new", "half the headers", "idle", "prediction", "question", "half a prediction"],
)
def test_a_stop_waits_for_what_is_due_and_then_closes(
    artifact: Artifact, monkeypatch: pytest.MonkeyPatch, data: bytes, statuses: list[int]
) -> None:
    monkeypatch.setattr("service.http.connection.LINGER_S", SHORT_S)

    async def scene(server: Server) -> None:
        connection = server.connect().send(data)
        connection.protocol.shutdown()
        assert not connection.transport.closing
        if data == GOOD[:-5]:
            connection.send(GOOD[-5:])
        await connection.rest()
        await connection.transport.over.wait()
        assert connection.statuses() == statuses
        connection.leave()

    serve(scene, artifact)


def test_a_request_that_comes_at_the_last_moment_is_answered_before_the_end(
    artifact: Artifact, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was on its way to an idle connection when the stop came; the next one is told to close."""
    monkeypatch.setattr("service.http.connection.LINGER_S", SHORT_S)

    async def scene(server: Server) -> None:
        connection = await server.connect().send(GOOD).rest()
        connection.protocol.shutdown()
        await connection.send(GOOD).rest()
        first, second = connection.answers()
        assert ("connection" in first.headers, second.headers["connection"]) == (False, "close")
        assert (second.status, connection.transport.closing) == (200, True)
        connection.leave()

    serve(scene, artifact)


@pytest.mark.parametrize("message", [GOOD, UNKNOWN, LIVEZ], ids=["prediction", "refused", "question"])
def test_a_draining_server_closes_after_each_response(artifact: Artifact, message: bytes) -> None:
    async def scene(server: Server) -> None:
        server.process.api.status.draining = True
        connection = await server.connect().send(message).rest()
        (answer,) = connection.answers()
        assert (answer.headers["connection"], connection.transport.closing) == ("close", True)
        connection.leave()

    serve(scene, artifact)
