"""Which connections are closed for those that wait for a descriptor."""

import asyncio

from models.artifact.artifact import Artifact
from service.http.idle_connections import make_room
from service.policy import SPARED_IDLE_S
from tests.service.http.played_connection import GOOD, Server, serve


def test_those_that_have_been_idle_longest_are_closed_and_no_other(artifact: Artifact) -> None:
    async def scene(server: Server) -> None:
        now_s = asyncio.get_running_loop().time()
        young, old, older, oldest, busy = connections = [server.connect() for _ in range(5)]
        for connection, idle_s in zip(connections, (0.9, 2, 3, 4, 5), strict=True):
            connection.protocol._idle_since_s = now_s - idle_s * SPARED_IDLE_S
        busy.send(GOOD[:1])
        known = [connection.protocol for connection in connections]
        assert make_room([object(), *known], 0) == 0
        assert make_room([object(), *known], 2) == 2
        for connection in (older, oldest):
            await connection.transport.over.wait()
        assert make_room(known, 9) == 1
        await old.transport.over.wait()
        assert not young.transport.closing
        busy.send(GOOD[1:])
        await busy.rest()
        assert busy.statuses() == [200]
        for connection in connections:
            connection.leave()

    serve(scene, artifact)
