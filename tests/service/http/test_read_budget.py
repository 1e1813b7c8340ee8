"""What data a turn of the event loop takes, and what becomes of the rest: real connections, and no HTTP."""

import asyncio
import socket
import time

import pytest
import uvloop

from service.http.read_budget import ReadBudget
from service.policy import TURN_NS
from tests.service.served import DEADLINE_S, until

LONG, FAILING, SHORT, LAST = b"0", b"1", b"2", b"3"


class Client(asyncio.Protocol):
    """A connection that sends one byte; to take it may last as long as a turn may, or fail."""

    def __init__(self, budget: ReadBudget, events: list[tuple[str, bytes]]) -> None:
        self._budget, self._events = budget, events
        self._byte = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport: asyncio.Transport = transport  # type: ignore[assignment]

    def data_received(self, data: bytes) -> None:
        self._byte = data
        if self._budget.note_arrival():
            self._take(data)
        else:
            self._events.append(("deferred", data))
            self._budget.defer(self._transport, self._take, data)

    def connection_lost(self, exc: Exception | None) -> None:
        del exc
        self._events.append(("lost", self._byte))

    def _take(self, data: bytes) -> None:
        self._events.append(("taken", data))
        if data == LONG:
            end_ns = self._budget.arrived_ns + TURN_NS
            until(lambda: time.monotonic_ns() > end_ns, "the turn's time to pass")
        if data == FAILING:
            raise ValueError


async def send(*sent: bytes) -> list[tuple[str, bytes]]:
    """What happens when these bytes are there at once, each on its own connection, until the last is taken."""
    budget, clients = ReadBudget(), []
    events: list[tuple[str, bytes]] = []
    for _ in sent:
        ours, client = socket.socketpair()
        clients.append(client)
        await asyncio.get_running_loop().connect_accepted_socket(lambda: Client(budget, events), ours)
    for client, byte in zip(clients, sent, strict=True):
        client.send(byte)
    while [what for what, _ in events].count("taken") < len(sent) or (
        FAILING in sent and ("lost", FAILING) not in events
    ):
        await asyncio.sleep(0)
    seen = events.copy()
    for client in clients:
        client.close()
    return seen


def happens(*sent: bytes) -> list[tuple[str, bytes]]:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(asyncio.wait_for(send(*sent), DEADLINE_S))


def test_what_comes_after_the_time_of_a_turn_waits_for_the_next_in_its_order() -> None:
    assert happens(LONG, SHORT, LAST) == [
        ("taken", LONG),
        ("deferred", SHORT),
        ("deferred", LAST),
        ("taken", SHORT),
        ("taken", LAST),
    ]


def test_what_waits_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """The oldest data makes room, in the turn that has no time for it."""
    monkeypatch.setattr("service.http.read_budget.WAITING_BYTES", 1)
    assert happens(LONG, SHORT, LAST, LAST)[2:] == [
        ("deferred", LAST),
        ("taken", SHORT),
        ("deferred", LAST),
        ("taken", LAST),
        ("taken", LAST),
    ]


def test_what_fails_then_costs_its_own_connection_only() -> None:
    events = happens(LONG, FAILING, LAST)
    assert events[:4] == [("taken", LONG), ("deferred", FAILING), ("deferred", LAST), ("taken", FAILING)]
    assert sorted(events[4:]) == [("lost", FAILING), ("taken", LAST)]
