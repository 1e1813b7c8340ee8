"""How a connection ends: by its client, by a stop, by a server that drains."""

import asyncio
import json
from collections.abc import Iterable
from itertools import chain, repeat

import pytest

from models.artifact.artifact import Artifact
from service.errors import ServiceError, Unavailable
from service.http.connection_state import CLOSING
from service.http.send_queue import SendQueue
from service.policy import PIECE_BYTES
from tests.service.http.played_connection import (
    CHUNKED,
    DELETE,
    GOOD,
    LAST_GOOD,
    LIVEZ,
    NOWHERE,
    OTHER,
    SHORT_S,
    UNKNOWN,
    Connection,
    Overloaded,
    Server,
    serve,
)
from tests.service.prediction.played import picture
from tests.service.wire import get, post

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


def test_a_client_that_leaves_within_a_body_that_fastapi_reads_is_no_fault_of_ours(
    artifact: Artifact, caplog: pytest.LogCaptureFixture
) -> None:
    async def scene(server: Server) -> None:
        connection = server.connect().send(get("/v2/repository/index", "Content-Length: 2", method="POST"))
        answering = tuple(connection.protocol.tasks)
        await asyncio.sleep(0)  # the application asks for the body
        connection.leave()
        await asyncio.gather(*answering)
        assert answering
        failed = {"route": "/v2/repository/index", "method": "POST", "code": "500"}
        assert server.process.count("http_requests_total", **failed) == 0

    serve(scene, artifact)
    assert not caplog.records


PAGE = "https://app.example.org"


def test_a_fault_of_a_route_is_answered_counted_and_has_a_line_in_the_access_log(
    artifact: Artifact, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    async def scene(server: Server) -> None:
        monkeypatch.setattr(server.process.api, "status", None)
        connection = await server.connect().send(get("/models", "X-Request-ID: mine", f"Origin: {PAGE}")).rest()
        (answer,) = connection.answers()
        assert (answer.status, json.loads(answer.body)["code"]) == (500, "internal_error")
        assert answer.headers["access-control-allow-origin"] == PAGE
        assert server.process.count("http_requests_total", route="/models", method="GET", code="500") == 1
        monkeypatch.undo()
        connection.leave()
        assert server.process.services.access_log is not None
        server.process.services.access_log.flush()

    serve(scene, artifact, access_log="errors", log_format="json", cors_origins=(PAGE,))
    (line,) = [line for line in capfd.readouterr().err.splitlines() if '"event":"request"' in line]
    noted = json.loads(line)
    assert (noted["request_id"], noted["status"], noted["code"]) == ("mine", 500, "internal_error")


@pytest.mark.parametrize("data", [b"", GOOD[:30], GOOD[:-5], DELETE, get("/livez", "Content-Length: 3")])
def test_a_client_to_whom_nothing_is_due_has_left(artifact: Artifact, data: bytes) -> None:
    async def scene(server: Server) -> None:
        connection = server.connect().send(data)
        assert not connection.end()
        connection.leave(ConnectionResetError())

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


# Clients that do not read


def test_of_a_client_that_does_not_read_its_answers_no_more_requests_are_read(artifact: Artifact) -> None:
    async def scene(server: Server) -> None:
        connection = await server.connect().send(GOOD).rest()
        connection.protocol.pause_writing()
        assert not connection.transport.reading
        connection.protocol.resume_writing()
        assert connection.transport.reading
        await connection.send(GOOD).rest()
        assert connection.statuses() == [200, 200]
        connection.leave()

    serve(scene, artifact)


def test_nor_when_data_that_had_come_before_is_taken_later(artifact: Artifact) -> None:
    async def scene(server: Server) -> None:
        connection = server.connect()
        connection.protocol._budget = Overloaded(lambda: 0)
        connection.send(GOOD[:-5], GOOD[-5:])
        connection.protocol.pause_writing()
        await connection.rest()
        while not connection.statuses():
            await asyncio.sleep(0)
            await connection.rest()
        assert not connection.transport.reading
        connection.leave()

    serve(scene, artifact)


@pytest.mark.parametrize("data", [GOOD, LIVEZ], ids=["prediction", "question"])
def test_what_is_pipelined_behind_a_due_answer_is_not_read_once_earlier_ones_are(
    artifact: Artifact, data: bytes
) -> None:
    async def scene(server: Server) -> None:
        connection = server.connect().send(data, OTHER)
        connection.protocol.pause_writing()
        connection.protocol.resume_writing()
        assert not connection.transport.reading
        await connection.rest()
        connection.leave()

    serve(scene, artifact)


def test_nor_when_fastapi_has_given_the_answer_that_is_not_read(artifact: Artifact) -> None:
    async def scene(server: Server) -> None:
        connection = server.connect().send(LIVEZ)
        connection.protocol.pause_writing()
        await asyncio.sleep(0)
        connection.protocol.resume_writing()
        while not connection.transport.written:
            await asyncio.sleep(0)
        connection.protocol.pause_writing()
        await connection.rest()
        assert connection.statuses() == [200]
        assert not connection.transport.reading
        connection.protocol.resume_writing()
        assert connection.transport.reading
        connection.leave()

    serve(scene, artifact)


@pytest.mark.parametrize("data", [GOOD, LIVEZ, LIVEZ + NOWHERE], ids=["prediction", "question", "two questions"])
def test_a_client_that_never_reads_its_answers_is_left(artifact: Artifact, data: bytes) -> None:
    """Also if the answer to the next question waits for room, which FastAPI would do for ever."""

    async def scene(server: Server) -> None:
        connection = server.connect()
        connection.protocol.timeout_keep_alive = SHORT_S  # type: ignore[assignment]
        connection.protocol.pause_writing()
        connection.send(data)
        await connection.transport.over.wait()
        assert connection.transport.closing
        connection.leave()
        await server.work_off()

    serve(scene, artifact)


def test_one_that_reads_slowly_is_not_before_it_stops(artifact: Artifact) -> None:
    sizes = [30, 20, 10, 10, 10]

    async def scene(server: Server) -> None:
        connection = server.connect()
        connection.protocol.timeout_keep_alive = SHORT_S  # type: ignore[assignment]
        connection.transport.get_write_buffer_size = lambda: sizes.pop(0)  # type: ignore[method-assign]
        connection.protocol.pause_writing()
        await connection.transport.over.wait()
        assert sizes == [10]
        connection.leave()

    serve(scene, artifact)


@pytest.mark.parametrize("end", ["stop", "end of grace"])
def test_the_end_does_not_wait_for_one_that_reads_nothing_of_what_it_pipelines(
    artifact: Artifact, monkeypatch: pytest.MonkeyPatch, end: str
) -> None:
    monkeypatch.setattr("service.http.connection.LINGER_S", SHORT_S)
    refused = post(bytes(PIECE_BYTES // 16 - len(UNKNOWN) + len(picture(1))), "/predictions/zebra")
    assert len(refused) == PIECE_BYTES // 16  # a piece ends between two

    async def scene(server: Server) -> None:
        connection = server.connect()
        connection.protocol.pause_writing()
        connection.send(refused * 500)
        assert connection.protocol._held
        if end == "stop":
            connection.protocol.shutdown()
        else:
            connection.protocol.refuse_request(Unavailable("draining", "why"))
        await connection.transport.over.wait()
        assert connection.transport.closing
        connection.leave()

    serve(scene, artifact)


def test_one_that_reads_a_little_is_not(artifact: Artifact) -> None:
    async def scene(server: Server) -> None:
        connection = server.connect()
        connection.protocol.timeout_keep_alive = SHORT_S  # type: ignore[assignment]
        connection.protocol.pause_writing()
        connection.protocol.resume_writing()
        await asyncio.sleep(3 * SHORT_S)
        assert not connection.transport.closing
        connection.leave()

    serve(scene, artifact)


def test_the_time_to_read_the_last_answer_begins_with_it(artifact: Artifact) -> None:
    """And not when the connection was idle last."""
    cut: list[str] = []

    async def scene(server: Server) -> None:
        connection = server.connect()
        connection.protocol._idle_since_s -= 2 * connection.protocol.timeout_keep_alive
        await connection.send(LAST_GOOD).rest()
        assert connection.state is CLOSING
        connection.transport.abort = lambda: cut.append("cut")  # type: ignore[method-assign]
        connection.protocol.timeout_keep_alive_handler(looked=True)
        assert cut == []
        connection.leave()

    serve(scene, artifact)


# Over TLS, where each side tells the other of the end

HAS_ALL, ON_ITS_WAY, UNSENT = SendQueue(0, 100, 0), SendQueue(1, 100, 0), SendQueue(3, 50, 7000)


def over_tls(connection: Connection, monkeypatch: pytest.MonkeyPatch, looks: Iterable[SendQueue]) -> asyncio.Event:
    """What the kernel tells at each look; set once the connection is cut."""
    cut, told = asyncio.Event(), iter(looks)
    monkeypatch.setattr("service.http.connection.LINGER_S", SHORT_S)
    monkeypatch.setattr(SendQueue, "of", lambda _: next(told))
    connection.transport.can_write_eof = lambda: False  # type: ignore[method-assign]
    connection.transport.abort = cut.set  # type: ignore[method-assign]
    return cut


@pytest.mark.parametrize(
    "looks",
    [
        pytest.param([UNSENT, ON_ITS_WAY, HAS_ALL], id="it reads on"),
        pytest.param([HAS_ALL, UNSENT, HAS_ALL], id="there is more that the kernel had no room for"),
    ],
)
def test_a_last_answer_is_not_cut_before_the_client_has_all(
    artifact: Artifact, monkeypatch: pytest.MonkeyPatch, looks: list[SendQueue]
) -> None:
    left = iter([*looks, HAS_ALL])

    async def scene(server: Server) -> None:
        connection = server.connect()
        cut = over_tls(connection, monkeypatch, left)
        await connection.send(LAST_GOOD).rest()
        await cut.wait()
        assert list(left) == []
        connection.leave()

    serve(scene, artifact)


@pytest.mark.parametrize("message", [GOOD, LIVEZ], ids=["ours", "FastAPI's"])
def test_a_stop_does_not_wait_for_the_goodbye_of_an_idle_client_that_has_vanished(
    artifact: Artifact, monkeypatch: pytest.MonkeyPatch, message: bytes
) -> None:
    async def scene(server: Server) -> None:
        connection = await server.connect().send(message).rest()
        cut = over_tls(connection, monkeypatch, chain([HAS_ALL] * 3, repeat(ON_ITS_WAY)))
        connection.protocol.shutdown()
        await asyncio.sleep(SHORT_S / 2)
        connection.protocol.shutdown()  # by uvicorn, a little later
        await cut.wait()
        connection.leave()

    serve(scene, artifact)


def test_nor_does_the_end_of_grace_for_that_of_one_that_is_refused(
    artifact: Artifact, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scene(server: Server) -> None:
        connection = server.connect().send(GOOD)
        cut = over_tls(connection, monkeypatch, repeat(ON_ITS_WAY))
        connection.protocol.refuse_request(Unavailable("draining", "why"))
        assert connection.statuses() == [503]
        await cut.wait()
        connection.leave()
        await server.work_off()

    serve(scene, artifact)


def test_at_the_end_a_question_that_is_not_answered_is_cut(artifact: Artifact) -> None:
    """FastAPI waits for a body of which nothing has come; uvicorn would wait for FastAPI."""

    async def scene(server: Server) -> None:
        connection = server.connect().send(get("/v2/repository/index", "Content-Length: 10", method="POST"))
        await asyncio.sleep(0)
        connection.protocol.refuse_request(Unavailable("draining", "why"))
        assert connection.transport.closing
        connection.leave()

    serve(scene, artifact)


def test_at_the_end_a_connection_whose_client_does_not_read_is_cut(artifact: Artifact) -> None:
    """It would hold up the end of the process."""

    async def scene(server: Server) -> None:
        connection = await server.connect().send(LAST_GOOD).rest()
        assert connection.state is CLOSING
        connection.transport.closing = False  # what was written has not gone out
        connection.protocol.refuse_request(Unavailable("draining", "why"))
        assert connection.transport.closing
        connection.leave()

    serve(scene, artifact)
