"""One connection without a network: what comes in, in which state that leaves it, and what goes out.

Behind it are a real application, real services, and a worker that the test plays. What real sockets and real time bring
is in `test_connections`.
"""

import asyncio
import json
from collections.abc import Iterable
from typing import Any

import pytest

from models.artifact.artifact import Artifact
from service.http.connection_state import ANSWERING, BODY, CLOSING, HEAD, IDLE, LAST, ConnectionState
from service.http.protocol import MAX_HEAD_BYTES
from service.policy import PIECE_BYTES
from tests.artifacts import LABELS
from tests.service.http.played_connection import (
    CHUNKED,
    CLOSE,
    CONNECT,
    DELETE,
    EXPECT,
    GARBAGE,
    GOOD,
    GOOD_HEAD,
    H2C,
    LAST_GOOD,
    LIVEZ,
    LONG,
    NOWHERE,
    OTHER,
    SHORT_S,
    TOO_LARGE,
    UNKNOWN,
    Connection,
    Overloaded,
    Server,
    serve,
)
from tests.service.prediction.played import BYTES, picture
from tests.service.wire import get, post

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
    "the headers of a prediction that is refused at its headers": ([DELETE[:-5]], BODY, []),
    "the first chunk of one": ([CHUNKED.replace(b"POST", b"DELETE")[:-10]], BODY, [405]),
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
        await server.work_off()
        assert connection.statuses() == statuses, "an answer to a client that has left"

    serve(scene, artifact)


ENDS = {
    "a prediction": ([GOOD], IDLE, [200]),
    "one after the other": ([GOOD, None, OTHER], IDLE, [200, 200]),
    "a client that wants to close": ([LAST_GOOD], CLOSING, [200]),
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
    "a prediction pipelined behind a question is not read": ([LIVEZ + GOOD], CLOSING, [200]),
    "garbage behind a question is not read": ([LIVEZ + GARBAGE], CLOSING, [200]),
    "garbage behind two questions is not read": ([LIVEZ + NOWHERE + GARBAGE], CLOSING, [200, 404]),
    "headers without end behind a question": ([LIVEZ + LONG[:-9], b"x" * (MAX_HEAD_BYTES + 1)], CLOSING, [200]),
    "garbage in the body of a question": (
        [get("/livez", "Transfer-Encoding: chunked") + GARBAGE],
        CLOSING,
        [200],
    ),
    "a tunnel behind a question": ([LIVEZ + CONNECT], CLOSING, [200]),
    "garbage behind a question and a prediction": ([LIVEZ + GOOD + GARBAGE], CLOSING, [200]),
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
        assert connection.transport.reading or state is not IDLE
        connection.leave()

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


def test_what_is_no_http_is_told_in_the_form_of_its_path_below_a_prefix(artifact: Artifact) -> None:
    async def scene(server: Server) -> None:
        connection = server.connect().send(b"GET /digits/v2 HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n")
        (answer,) = connection.answers()
        assert (answer.status, json.loads(answer.body).keys()) == (400, {"error"})
        connection.leave()

    serve(scene, artifact, root_path="/digits")


def bytes_of(data: bytes) -> Iterable[bytes]:
    return (data[i : i + 1] for i in range(len(data)))


def test_garbage_in_a_body_that_fastapi_waits_for_is_told_and_ends_the_connection(artifact: Artifact) -> None:
    """Also if its client has ended its side: both look like one that waits for its answer."""

    async def scene(server: Server) -> None:
        connection = server.connect()
        connection.send(get("/v2/repository/index", "Transfer-Encoding: chunked", method="POST"), b"ZZ\r\n")
        assert connection.state is LAST
        assert connection.end()
        await connection.transport.over.wait()
        assert (connection.state, connection.statuses()) == (CLOSING, [400])
        connection.leave()

    serve(scene, artifact, body_timeout=SHORT_S)


@pytest.mark.parametrize("question", [LIVEZ, NOWHERE, UNKNOWN], ids=["probe", "question", "refused prediction"])
def test_of_thousands_that_are_pipelined_few_are_parsed_at_a_time_and_all_are_answered(
    artifact: Artifact, question: bytes
) -> None:
    async def scene(server: Server) -> None:
        connection = server.connect().send(question * 500)
        few = PIECE_BYTES // len(question) + 1
        assert len(connection.protocol.pipeline) <= few
        while connection.protocol._deferred:
            await connection.rest()
            await asyncio.sleep(0)
            assert len(connection.protocol.pipeline) <= few
        await connection.rest()
        assert len(connection.statuses()) == 500
        assert connection.transport.reading
        connection.leave()

    serve(scene, artifact)


def test_what_comes_behind_pipelined_questions_waits_for_them(artifact: Artifact) -> None:
    async def scene(server: Server) -> None:
        connection = server.connect().send(LIVEZ * 200)
        assert connection.protocol._held
        connection.send(NOWHERE[:9], NOWHERE[9:])
        while connection.protocol._deferred or connection.protocol._in_cycle:
            await asyncio.sleep(0)
        assert connection.statuses() == [200] * 200 + [404]
        assert connection.transport.reading
        connection.leave()

    serve(scene, artifact)


def test_of_a_client_that_does_not_read_its_refusals_few_are_made(artifact: Artifact) -> None:
    async def scene(server: Server) -> None:
        connection = server.connect()
        connection.protocol.pause_writing()
        connection.send(UNKNOWN * 500)
        for _ in range(100):
            await asyncio.sleep(0)
        assert len(connection.statuses()) <= PIECE_BYTES // len(UNKNOWN) + 1
        connection.protocol.resume_writing()
        while connection.protocol._deferred:
            await asyncio.sleep(0)
        assert connection.statuses() == [404] * 500
        connection.leave()

    serve(scene, artifact)


def test_many_probes_are_no_probe(artifact: Artifact) -> None:
    """They wait for their turn; one does not."""

    async def scene(server: Server) -> None:
        connection, other = server.connect(), server.connect()
        connection.protocol._budget = other.protocol._budget = Overloaded(lambda: 0)
        connection.send(LIVEZ * 50)
        assert connection.protocol.cycle is None
        other.send(LIVEZ)
        assert other.protocol.cycle
        while len(connection.statuses()) < 50:
            await asyncio.sleep(0)
        connection.leave()
        other.leave()

    serve(scene, artifact)


def test_a_probe_behind_what_waits_for_its_turn_is_answered_behind_it(artifact: Artifact) -> None:
    async def scene(server: Server) -> None:
        connection = server.connect()
        connection.protocol._budget = Overloaded(lambda: 0)
        connection.send(NOWHERE, LIVEZ)
        while len(connection.statuses()) < 2:
            await asyncio.sleep(0)
        assert connection.statuses() == [404, 200]
        connection.leave()

    serve(scene, artifact)


def test_no_parser_sees_the_body_behind_a_plain_head(artifact: Artifact) -> None:
    async def scene(server: Server) -> None:
        connection = server.connect()
        connection.protocol.parser = None  # type: ignore[assignment]
        await connection.send(GOOD_HEAD, *bytes_of(GOOD[len(GOOD_HEAD) :])).rest()
        await connection.send(GOOD[:-9], GOOD[-9:]).rest()
        assert (connection.statuses(), connection.state) == ([200, 200], IDLE)
        connection.leave()

    serve(scene, artifact)


def test_requests_of_one_connection_are_answered_each_with_its_own_body(artifact: Artifact) -> None:
    async def scene(server: Server) -> None:
        connection = server.connect()
        for first in (1, 2, 3):
            await connection.send(post(picture(first))).rest()
        tops = [json.loads(answer.body)["predictions"][0]["label"] for answer in connection.answers()]
        assert tops == [LABELS[1], LABELS[2], LABELS[3]]
        connection.leave()

    serve(scene, artifact)
