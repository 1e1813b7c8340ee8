"""What FastAPI writes of one answer goes out together, and in its order."""

import asyncio

from service.http.joined_writes import JoinedWrites
from tests.artifacts import Artifact
from tests.service.http.played_connection import Server, Transport, serve


class Pieces(Transport):
    """Keeps what is written apart."""

    def __init__(self) -> None:
        super().__init__()
        self.pieces: list[bytes] = []

    def write(self, data: bytes) -> None:  # type: ignore[override]
        self.pieces.append(data)
        super().write(data)


def test_what_is_written_in_one_turn_is_one_piece() -> None:
    async def run() -> None:
        transport = Pieces()
        joined = JoinedWrites(transport)
        joined.write(b"a")
        joined.write(b"b")
        assert transport.pieces == []
        await asyncio.sleep(0)
        assert transport.pieces == [b"ab"]
        joined.write(b"c")
        joined.close()
        assert (transport.pieces, transport.closing) == ([b"ab", b"c"], True)
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
