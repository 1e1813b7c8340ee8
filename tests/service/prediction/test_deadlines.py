"""Deadlines: whoever has not ended by then is called, once and not before."""

import asyncio
import time
import weakref
from collections.abc import Awaitable, Callable

import pytest
import uvloop

from service.prediction.deadlines import TICK_NS, Deadlines

MS = 1_000_000
PATIENCE_S = 10.0


def play(scene: Callable[[Deadlines], Awaitable[None]]) -> None:
    async def run() -> None:
        await asyncio.wait_for(scene(Deadlines()), PATIENCE_S)

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(run())


class Call:
    """Tells when it was made."""

    def __init__(self) -> None:
        self.made: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    def make(self) -> None:
        self.made.set_result(time.monotonic_ns())  # raises the second time


def test_calls_are_made_once_in_their_order_and_never_before_their_deadlines() -> None:
    async def scene(deadlines: Deadlines) -> None:
        now, calls = time.monotonic_ns(), [Call() for _ in range(20)]
        wanted = [now + i * TICK_NS // 4 for i in range(len(calls))]  # four in each tick
        for deadline_ns, call in reversed(list(zip(wanted, calls, strict=True))):
            deadlines.add(deadline_ns, call.make)
        made = await asyncio.gather(*(call.made for call in calls))
        assert all(at > deadline_ns for at, deadline_ns in zip(made, wanted, strict=True))
        assert made[::8] == sorted(made[::8])

    play(scene)


def test_a_deadline_that_has_passed_already_is_called_at_once_and_not_within_add() -> None:
    async def scene(deadlines: Deadlines) -> None:
        call = Call()
        deadlines.add(time.monotonic_ns() - 5 * TICK_NS, call.make)
        assert not call.made.done()
        await call.made

    play(scene)


def test_whoever_has_ended_is_not_called_and_not_kept() -> None:
    async def scene(deadlines: Deadlines) -> None:
        deadline_ns = time.monotonic_ns() + 20 * MS
        ended, other = Call(), Call()
        tick = deadlines.add(deadline_ns, ended.make)
        deadlines.add(deadline_ns, other.make)
        deadlines.remove(tick, ended.make)
        gone, made = weakref.ref(ended), ended.made
        del ended
        assert gone() is None
        await other.made
        assert not made.done()
        deadlines.remove(tick, other.make)  # too late, and no error

    play(scene)


def test_a_call_may_end_another_one_of_its_tick() -> None:
    async def scene(deadlines: Deadlines) -> None:
        deadline_ns, last = time.monotonic_ns() + 20 * MS, Call()
        made: list[str] = []

        def one() -> None:
            made.append("one")
            deadlines.remove(tick, other)

        def other() -> None:
            made.append("other")
            deadlines.remove(tick, one)

        tick = deadlines.add(deadline_ns, one)
        assert deadlines.add(deadline_ns, other) == tick
        deadlines.add(deadline_ns + 2 * TICK_NS, last.make)
        await last.made
        assert len(made) == 1

    play(scene)


def test_a_call_that_fails_takes_no_other_with_it() -> None:
    async def scene(deadlines: Deadlines) -> None:
        deadline_ns, calls = time.monotonic_ns() + 20 * MS, [Call() for _ in range(5)]

        def fail() -> None:
            raise RuntimeError

        ticks = {deadlines.add(deadline_ns, call) for call in (fail, *(call.make for call in calls))}
        assert len(ticks) == 1
        await asyncio.gather(*(call.made for call in calls))

    play(scene)


def test_deadlines_of_one_tick_share_a_timer(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scene() -> None:
        loop = asyncio.get_running_loop()
        timers: list[float] = []
        call_later = loop.call_later
        monkeypatch.setattr(loop, "call_later", lambda s, *call: timers.append(s) or call_later(s, *call))
        deadlines, far = Deadlines(), (time.monotonic_ns() // TICK_NS + 10_000) * TICK_NS
        calls = [Call() for _ in range(9)]
        ticks = [deadlines.add(far + i * TICK_NS // 3, call.make) for i, call in enumerate(calls)]
        assert len(timers) == 3
        for tick, call in zip(ticks, calls, strict=True):
            deadlines.remove(tick, call.make)
        deadlines.add(far, calls[0].make)
        assert len(timers) == 4  # the first one was stopped with the last of its calls

    asyncio.run(scene())
