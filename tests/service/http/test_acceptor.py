"""How many connections a turn of the event loop accepts."""

import asyncio
import socket
from contextlib import ExitStack

import pytest
import uvloop

from service.http.acceptor import Acceptor, listen
from service.policy import ACCEPTS_PER_TURN
from tests.service.served import DEADLINE_S

CROWD = 200


async def accept(already: int) -> tuple[int, int]:
    """How many of a crowd a loop accepts in its first turn, with so many connections, and how many until it stops."""
    taken: list[asyncio.Protocol] = []

    def make() -> asyncio.Protocol:
        taken.append(asyncio.Protocol())
        return taken[-1]

    with ExitStack() as stack:
        listener = stack.enter_context(listen("127.0.0.1", 0))
        for _ in range(CROWD):
            stack.enter_context(socket.create_connection(listener.getsockname(), DEADLINE_S))
        acceptor = Acceptor(listener, make, range(already))
        while not taken:
            await asyncio.sleep(0)
        first = len(taken)
        await acceptor.close()
        return first, len(taken)


@pytest.mark.parametrize(("already", "first"), [(0, ACCEPTS_PER_TURN), (200, 50), (1000, CROWD)])
def test_a_turn_accepts_a_quarter_more_and_the_end_loses_none(already: int, first: int) -> None:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        assert runner.run(asyncio.wait_for(accept(already), DEADLINE_S)) == (first, CROWD)
