"""One timer for the deadlines of all requests."""

import asyncio
import time
from collections.abc import Callable

from service.prediction.deadlines import Deadlines

MS = 1_000_000


class Late:
    """Notes when it is told."""

    def __init__(self, told: list["Late"]) -> None:
        self._told = told
        self.told_ns = 0

    def expire(self) -> None:
        self.told_ns = time.monotonic_ns()
        self._told.append(self)


class Broken(Late):
    """Fails at it."""

    def expire(self) -> None:
        super().expire()
        raise RuntimeError("broken")


def watch(deadlines: Deadlines, one: Late, ns: int) -> None:
    """As a request does."""
    deadlines.open[one] = ns
    if ns < deadlines.looks_ns:
        deadlines.look_at(ns)


def told_of(scene: Callable[[Deadlines, list[Late]], None], count: int) -> list[Late]:
    """The first that are told."""
    told: list[Late] = []

    async def play() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda *_: None)
        scene(Deadlines(), told)
        while len(told) < count:
            await asyncio.sleep(0)

    asyncio.run(asyncio.wait_for(play(), 30))
    return told


def test_each_is_told_once_after_its_deadline() -> None:
    deadlines_ns: dict[Late, int] = {}

    def scene(deadlines: Deadlines, told: list[Late]) -> None:
        for ms in (90, 10, 50, 30, 70):
            one = Late(told)
            deadlines_ns[one] = time.monotonic_ns() + ms * MS
            watch(deadlines, one, deadlines_ns[one])

    told = told_of(scene, 5)
    assert len(told) == len(set(told)) == 5
    assert all(one.told_ns >= deadlines_ns[one] for one in told)


def test_what_has_ended_is_not_told() -> None:
    ended: list[Late] = []

    def scene(deadlines: Deadlines, told: list[Late]) -> None:
        ended.append(Late(told))
        watch(deadlines, ended[0], time.monotonic_ns() + 10 * MS)
        watch(deadlines, Late(told), time.monotonic_ns() + 20 * MS)
        del deadlines.open[ended[0]]

    (told,) = told_of(scene, 1)
    assert told not in ended


def test_a_deadline_may_move() -> None:
    def scene(deadlines: Deadlines, told: list[Late]) -> None:
        moved, other = Late(told), Late(told)
        watch(deadlines, moved, time.monotonic_ns() + 3600_000 * MS)
        watch(deadlines, other, time.monotonic_ns() + 40 * MS)
        watch(deadlines, moved, time.monotonic_ns() + 20 * MS)

    assert len(set(told_of(scene, 2))) == 2


def test_a_later_deadline_does_not_put_off_an_earlier_one() -> None:
    soon: list[Late] = []

    def scene(deadlines: Deadlines, told: list[Late]) -> None:
        soon.append(Late(told))
        watch(deadlines, soon[0], time.monotonic_ns() + 20 * MS)
        watch(deadlines, Late(told), time.monotonic_ns() + 3600_000 * MS)

    assert told_of(scene, 1) == soon


def test_one_that_fails_keeps_no_other_from_being_told() -> None:
    def scene(deadlines: Deadlines, told: list[Late]) -> None:
        for kind in (Broken, Late, Broken):
            watch(deadlines, kind(told), time.monotonic_ns())
        watch(deadlines, Late(told), time.monotonic_ns() + 20 * MS)

    assert len(told_of(scene, 4)) == 4
