"""What FastAPI writes of one answer goes out together, and in its order."""

import asyncio
import re
from collections.abc import AsyncIterator

from fastapi import Request
from fastapi.responses import StreamingResponse

from service.http.connection_state import AWAITS_BODY
from service.http.joined_writes import JoinedWrites
from service.prediction.request import late_body
from tests.artifacts import Artifact
from tests.service.http.played_connection import Connection, Server, Transport, serve
from tests.service.wire import get


class Pieces(Transport):
    """Keeps what is written apart."""

    def __init__(self) -> None:
        super().__init__()
        self.pieces: list[bytes] = []

    def write(self, data: bytes) -> None:  # type: ignore[override]
        self.pieces.append(data)
        super().write(data)


def test_a_head_goes_out_with_its_body_or_at_the_end_of_the_turn() -> None:
    async def run() -> None:
        transport = Pieces()
        joined = JoinedWrites(transport)
        joined.write(b"a")
        assert transport.pieces == []
        joined.write(b"b")
        assert transport.pieces == [b"ab"]
        joined.write(b"")
        joined.write(b"c")
        await asyncio.sleep(0)
        assert transport.pieces == [b"ab", b"c"]
        joined.write(b"d")
        joined.close()
        assert (transport.pieces, transport.closing) == ([b"ab", b"c", b"d"], True)
        transport.socket.close()
        transport.client.close()

    asyncio.run(run())


def test_an_answer_before_the_end_of_a_body_is_one_piece(artifact: Artifact) -> None:
    """And is not held back until that end."""

    async def scene(server: Server) -> None:
        transport = Pieces()
        connection = server.connect(transport)
        connection.send(b"POST /models HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n")
        while not transport.written:
            await asyncio.sleep(0)
        assert connection.statuses() == [405]
        assert len(transport.pieces) == 1
        connection.send(b"the image")
        await connection.rest()
        connection.leave()

    serve(scene, artifact)


def test_a_stream_that_never_waits_is_held_up_by_a_client_that_does_not_read(artifact: Artifact) -> None:
    """Else all of it would be in memory."""
    sent = []

    class Full(Pieces):
        def write(self, data: bytes) -> None:  # type: ignore[override]
            super().write(data)
            connection.protocol.pause_writing()

    async def stream() -> AsyncIterator[bytes]:
        for _ in range(100):
            sent.append(1)
            yield b"part"

    async def scene(server: Server) -> None:
        nonlocal connection
        server.config.app.get("/stream")(lambda: StreamingResponse(stream()))  # type: ignore[union-attr]
        connection = server.connect(Full())
        connection.send(get("/stream"))
        while not connection.transport.written:
            await asyncio.sleep(0)
        for _ in range(10):
            await asyncio.sleep(0)
        assert len(sent) < 10
        connection.leave()

    connection: Connection
    serve(scene, artifact)


def test_an_answer_is_not_lost_if_the_time_for_its_requests_body_is_over_in_its_turn(artifact: Artifact) -> None:
    async def scene(server: Server) -> None:
        connection = server.connect()
        connection.send(b"POST /models HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n")
        while not connection.protocol.cycle.response_started:
            await asyncio.sleep(0)
        connection.protocol._answer_instead(late_body())
        assert (connection.statuses(), connection.transport.closing) == ([405], True)
        connection.leave()

    serve(scene, artifact)


def test_a_body_is_asked_for_before_the_answer_that_it_did_not_come_in_time(artifact: Artifact) -> None:
    async def read(request: Request) -> None:
        await request.body()

    async def scene(server: Server) -> None:
        server.config.app.post("/read")(read)  # type: ignore[union-attr]
        connection = server.connect()
        connection.send(b"POST /read HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 9\r\n\r\n")
        while not connection.protocol.cycle.scope.get(AWAITS_BODY):
            await asyncio.sleep(0)
        connection.protocol._answer_instead(late_body())
        await asyncio.sleep(0)
        assert re.findall(rb"HTTP/1.1 (\d+)", connection.transport.written) == [b"100", b"408"]
        connection.leave()

    serve(scene, artifact)
