"""What data a turn of the event loop takes, and what becomes of the rest: real connections, and no HTTP."""

import asyncio
import socket
import time
from contextlib import ExitStack

import pytest
import uvloop

from service.http.read_budget import ReadBudget
from service.policy import NEWEST_PER_LATE, TURN_NS
from tests.service.served import DEADLINE_S, until

LONG, FAILING, SHORT, LAST, LATE = b"0", b"1", b"2", b"3", b"4"


class Client(asyncio.Protocol):
    """A connection that sends one byte; to take it may last as long as a turn may, fail, or be too late."""

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
    events: list[tuple[str, bytes]] = []
    budget, clients = ReadBudget(lambda: events.count(("taken", LATE))), []
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


def test_behind_an_old_one_that_came_too_late_the_newest_are_taken_first() -> None:
    newest = [b"c", b"d"]
    assert len(newest) == NEWEST_PER_LATE
    taken = [data for what, data in happens(LONG, LATE, b"a", b"b", *newest) if what == "taken"]
    assert taken == [LONG, LATE, *reversed(newest), b"a", b"b"]


def test_one_that_came_too_late_among_the_newest_does_not_put_off_the_oldest_again() -> None:
    taken = [data for what, data in happens(LONG, LATE, b"a", LATE, LATE, LATE) if what == "taken"]
    assert taken == [LONG, LATE, LATE, LATE, b"a", LATE]


def test_no_data_is_taken_before_older_data_of_its_connection() -> None:
    """A connection whose second data wait is not read any more, which tells it from the others."""

    async def take() -> list[str]:
        taken: list[str] = []
        budget, transports = ReadBudget(lambda: taken.count("late")), []
        with ExitStack() as stack:
            for _ in range(3):
                ours, client = socket.socketpair()
                stack.callback(client.close)
                transport, _ = await asyncio.get_running_loop().connect_accepted_socket(asyncio.Protocol, ours)
                stack.callback(transport.abort)
                transports.append(transport)
            budget.note_arrival()
            for transport, sent in zip(transports, (["late"], ["other"], ["first", "then"]), strict=True):
                for name in sent:
                    budget.defer(
                        transport, lambda data: taken.append(data.decode()), name.encode(), pause=name == "then"
                    )
            while len(taken) < 4:
                await asyncio.sleep(0)
        await asyncio.sleep(0)  # the transports close
        return taken

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        taken = runner.run(asyncio.wait_for(take(), DEADLINE_S))
    assert taken.index("first") < taken.index("then")
