"""What data a turn of the event loop takes, and what becomes of the rest: real connections, and no HTTP."""

import asyncio
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import ExitStack, asynccontextmanager

import pytest
import uvloop

from service.http.read_budget import ReadBudget
from service.policy import NEWEST_PER_LATE, TURN_NS
from tests.service.event_loop import turn
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


def test_nothing_overtakes_what_waits_while_none_comes_too_late() -> None:
    sent = [LONG, *(b"%c" % letter for letter in range(ord("a"), ord("h")))]
    assert [data for what, data in happens(*sent) if what == "taken"] == sent


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


@asynccontextmanager
async def connected(count: int) -> AsyncIterator[list[asyncio.Transport]]:
    """So many connections, whose clients send nothing."""
    with ExitStack() as stack:
        transports = []
        for _ in range(count):
            ours, client = socket.socketpair()
            stack.callback(client.close)
            transport, _ = await asyncio.get_running_loop().connect_accepted_socket(asyncio.Protocol, ours)
            stack.callback(transport.abort)
            transports.append(transport)
        yield transports
    await asyncio.sleep(0)  # the transports close


def test_no_data_is_taken_before_older_data_of_its_connection() -> None:
    """A connection whose second data wait is not read any more, which tells it from the others."""

    async def take() -> list[str]:
        taken: list[str] = []
        budget = ReadBudget(lambda: taken.count("late"))
        async with connected(3) as transports:
            budget.note_arrival()
            for transport, sent in zip(transports, (["late"], ["other"], ["first", "then"]), strict=True):
                for name in sent:
                    budget.defer(
                        transport, lambda data: taken.append(data.decode()), name.encode(), pause=name == "then"
                    )
            while len(taken) < 4:
                await asyncio.sleep(0)
        return taken

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        taken = runner.run(asyncio.wait_for(take(), DEADLINE_S))
    assert taken.index("first") < taken.index("then")


class Waiting:
    """A budget and connections on which nothing arrives: what waits is what the test lets wait."""

    def __init__(self, transports: list[asyncio.Transport]) -> None:
        self.budget, self.transports, self.taken = ReadBudget(lambda: 0), transports, list[bytes]()

    def take(self, data: bytes) -> None:
        self.taken.append(data)

    def take_long(self, data: bytes) -> None:
        """To take it lasts as long as the turn."""
        self.take(data)
        self.pass_time()

    def pass_time(self) -> None:
        until(lambda: not self.budget.has_time, "the turn's time to pass")

    async def until_taken(self, count: int) -> list[int]:
        """Wait for so many; how many there were after each turn of the loop."""
        turns = [len(self.taken)]
        while len(self.taken) < count:
            await asyncio.sleep(0)
            turns.append(len(self.taken))
        return turns


def play(scene: Callable[[Waiting], Awaitable[None]]) -> None:
    async def run() -> None:
        failures = list[dict[str, object]]()
        asyncio.get_running_loop().set_exception_handler(lambda _, context: failures.append(context))
        async with connected(2) as transports:
            await scene(Waiting(transports))
        assert failures == []

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(asyncio.wait_for(run(), DEADLINE_S))


def test_a_turn_takes_of_what_waits_what_it_has_time_for() -> None:
    async def scene(waiting: Waiting) -> None:
        budget, (transport, _) = waiting.budget, waiting.transports
        budget.note_arrival()
        for data in (b"a", b"b", b"c"):
            budget.defer(transport, waiting.take_long, data)
        turns = await waiting.until_taken(3)
        assert set(turns) == {0, 1, 2, 3}

    play(scene)


def test_a_turn_has_time_from_its_first_data_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("service.http.read_budget.TURN_NS", 10**12)

    async def scene(waiting: Waiting) -> None:
        assert not waiting.budget.has_time
        waiting.budget.note_arrival()
        assert waiting.budget.has_time
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert not waiting.budget.has_time

    play(scene)


def test_each_turn_has_its_time_also_if_the_last_had_none_left() -> None:
    async def scene(waiting: Waiting) -> None:
        for _ in range(2):
            assert waiting.budget.note_arrival()
            waiting.pass_time()
            assert not waiting.budget.note_arrival()
            await asyncio.sleep(0)
            await asyncio.sleep(0)

    play(scene)


def test_what_is_put_back_comes_before_all_that_waits_and_before_all_that_arrives() -> None:
    async def scene(waiting: Waiting) -> None:
        budget, (transport, other) = waiting.budget, waiting.transports
        budget.put_back(transport, waiting.take, b"held back")  # while nothing arrives
        assert not budget.note_arrival()
        budget.defer(other, waiting.take, b"new")
        budget.put_back(transport, waiting.take, b"first")
        await waiting.until_taken(3)
        assert waiting.taken == [b"first", b"held back", b"new"]

    play(scene)


def test_what_is_put_back_has_arrived_then_and_does_not_prolong_the_turn() -> None:
    async def scene(waiting: Waiting) -> None:
        budget, (transport, _) = waiting.budget, waiting.transports
        assert budget.note_arrival()
        arrived_ns = budget.arrived_ns
        waiting.pass_time()
        budget.put_back(transport, waiting.take, b"rest")
        assert (budget.has_time, budget.arrived_ns) == (False, arrived_ns)
        await waiting.until_taken(1)
        await turn()
        budget.put_back(transport, waiting.take, b"held back")
        assert budget.has_time
        assert budget.arrived_ns > arrived_ns
        await waiting.until_taken(2)

    play(scene)


def test_what_is_put_back_counts_as_what_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("service.http.read_budget.WAITING_BYTES", 10)

    async def scene(waiting: Waiting) -> None:
        budget, (transport, other) = waiting.budget, waiting.transports
        budget.put_back(transport, waiting.take, bytes(8))
        assert waiting.taken == []
        budget.defer(other, waiting.take, b"new")
        assert waiting.taken == [bytes(8)]
        await waiting.until_taken(2)

    play(scene)


def test_nothing_more_is_read_of_a_connection_until_its_last_data_is_taken() -> None:
    async def scene(waiting: Waiting) -> None:
        budget, (transport, other) = waiting.budget, waiting.transports
        read = list[tuple[bool, bool]]()

        def take(data: bytes) -> None:
            waiting.take_long(data)
            read.append((transport.is_reading(), other.is_reading()))

        budget.note_arrival()
        budget.defer(transport, take, b"first")
        budget.defer(transport, take, b"then", pause=True)
        assert (transport.is_reading(), other.is_reading()) == (False, True)
        await waiting.until_taken(2)
        assert read == [(False, True), (True, True)]

    play(scene)


def test_what_waits_of_a_connection_that_is_gone_is_not_taken() -> None:
    async def scene(waiting: Waiting) -> None:
        budget, (gone, other) = waiting.budget, waiting.transports
        budget.note_arrival()
        budget.defer(gone, waiting.take, b"gone")
        budget.defer(other, waiting.take, b"there")
        gone.abort()
        await waiting.until_taken(1)
        assert waiting.taken == [b"there"]

    play(scene)
