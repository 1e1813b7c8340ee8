"""Connections that are over, and others that are only half so: real ones."""

import asyncio
import socket
import struct
from collections.abc import Iterator

import pytest
import uvloop

from service.http.hangup_watch import HangupWatch
from tests.service.served import DEADLINE_S

Pair = tuple[socket.socket, socket.socket]


@pytest.fixture
def pairs() -> Iterator[list[Pair]]:
    """Connections, each with its client's end first."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        found = [(socket.create_connection(listener.getsockname()), listener.accept()[0]) for _ in range(3)]
    yield found
    for pair in found:
        for end in pair:
            end.close()


def reset(client: socket.socket) -> None:
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # tcp(7)
    client.close()


def watch(pairs: list[Pair], act: object) -> list[int]:
    """The server's ends that are over after an act, in order; the last pair is reset, and ends the watch."""

    async def scene() -> list[int]:
        watch, over, ended = HangupWatch(), [], asyncio.Event()
        for i, (_, server) in enumerate(pairs):
            watch.watch(server.fileno(), lambda i=i: (over.append(i), ended.set() if i == len(pairs) - 1 else None))
        act(watch)
        reset(pairs[-1][0])
        await ended.wait()
        return over

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(asyncio.wait_for(scene(), DEADLINE_S))


def test_a_client_that_ends_its_sending_side_is_still_there(pairs: list[Pair]) -> None:
    def act(_: HangupWatch) -> None:
        pairs[0][0].shutdown(socket.SHUT_WR)
        pairs[0][1].send(b"x")

    assert watch(pairs, act) == [2]


def test_a_client_that_has_closed_is_gone_once_something_is_sent_to_it(pairs: list[Pair]) -> None:
    def act(_: HangupWatch) -> None:
        for client, _ in pairs[:2]:
            client.close()
        pairs[0][1].send(b"x")

    assert sorted(watch(pairs, act)) == [0, 2]


def test_what_is_forgotten_is_not_told(pairs: list[Pair]) -> None:
    def act(watch: HangupWatch) -> None:
        reset(pairs[0][0])
        for _ in range(2):
            watch.forget(pairs[0][1].fileno())
        pairs[1][1].close()
        watch.forget(pairs[1][1].fileno())

    assert watch(pairs, act) == [2]
