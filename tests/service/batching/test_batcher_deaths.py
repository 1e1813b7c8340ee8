"""Workers and API processes that die, in any order: every image gets one outcome, and every slot returns once."""

import asyncio
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.batching.image_task import ImageTask, Result
from service.errors import Unavailable
from service.ipc.messages import BatchMessage
from tests.service.batching.played_batcher import SLOTS, Played, kinds, play, second
from tests.service.event_loop import turn


def test_a_dead_workers_batch_is_retried_one_by_one_and_once() -> None:
    async def scene(played: Played) -> None:
        played.up()
        for name in range(3):
            played.submit(name)
        await turn()
        assert played.names(played.take()) == [0, 1, 2]
        assert len(played.batcher.worker_down(0)) == 3
        played.up()
        await turn()
        assert played.names(played.take()) == [0]
        played.batcher.worker_down(0)  # it was the first one's fault: it has taken two workers down
        assert kinds(played.outcomes[0]) == [Unavailable]
        played.up()
        await turn()
        for name in (1, 2):
            message = played.take()
            assert played.names(message) == [name]
            assert message is not None
            assert message.most == 0
            played.reply(message)
            await turn()
            assert kinds(played.outcomes[name]) == [Result]

    assert len(play(scene).free) == SLOTS


def test_what_the_dead_worker_had_answered_is_done_though_nobody_has_read_it() -> None:
    async def scene(played: Played) -> None:
        played.up()
        message = await played.sent(0)
        played.reply(message)
        assert played.batcher.worker_down(0) == []
        assert kinds(played.outcomes[0]) == [Result]

    assert len(play(scene).free) == SLOTS


def test_a_batch_that_the_dead_worker_had_not_begun_is_not_suspected() -> None:
    async def scene(played: Played) -> None:
        played.up()
        for name in range(4):
            played.submit(name)
        await turn()
        assert played.names(played.take()) == [0, 1]  # and the second batch still lies in the pipe
        played.batcher.worker_down(0)
        played.up()
        await turn()
        for name in (0, 1):
            assert played.names(played.take()) == [name]
            played.batcher.worker_down(0)
            assert kinds(played.outcomes[name]) == [Unavailable]
            played.up()
            await turn()
        assert played.names(played.take()) == [2, 3]

    play(scene, max_batch_size=2)


def test_what_a_worker_was_to_retry_and_had_not_begun_is_retried_alone_and_once() -> None:
    async def scene(played: Played) -> None:
        played.up()
        played.submit(0)
        await turn()
        assert played.names(played.take()) == [0]
        played.batcher.worker_down(0)
        played.up()
        await turn()
        assert played.batcher.worker_down(0) == []
        played.up()
        await turn()
        message = played.take()
        assert message is not None
        assert message.most == 0
        played.batcher.worker_down(0)
        assert kinds(played.outcomes[0]) == [Unavailable]

    assert len(play(scene).free) == SLOTS


def test_what_nobody_wants_any_more_is_not_retried() -> None:
    async def scene(played: Played) -> None:
        played.up()
        leaver = played.submit(0)
        await turn()
        assert played.names(played.take()) == [0]
        played.batcher.withdraw(leaver)
        played.batcher.worker_down(0)
        assert leaver.slot in played.free
        played.up()
        await turn()
        assert played.take() is None

    play(scene)


@pytest.mark.parametrize("how", ["it ends", "the worker dies"])
def test_a_successor_waits_until_the_workers_are_done_with_its_predecessors_slots(how: str) -> None:
    async def scene(played: Played) -> None:
        predecessor = second(played, image_ms=3)
        predecessor.submit(0)
        await turn()
        running = played.take()
        assert running is not None
        predecessor.close()
        successor = Played(beside=played)
        successor.up()
        settling = asyncio.ensure_future(successor.batcher.settle())
        await turn()
        assert not settling.done()
        if how == "it ends":
            played.reply(running)
        else:
            successor.batcher.worker_down(0)
        await asyncio.wait_for(settling, 10)
        successor.close()

    play(scene)


def test_a_successor_does_not_wait_for_what_lies_in_a_pipe_and_is_of_its_predecessor_by_its_number() -> None:
    async def scene(played: Played) -> None:
        predecessor = second(played, image_ms=3)
        predecessor.submit(0)
        await turn()
        predecessor.close()
        successor = Played(beside=played)
        successor.up()
        await asyncio.wait_for(successor.batcher.settle(), 10)
        first = played.channels.shared_state.first_batches[successor.api]
        message = played.take()
        assert message is not None
        assert message.batch < first
        successor.submit(1)
        await turn()
        message = played.take()
        assert message is not None
        assert message.batch >= first
        successor.close()

    play(scene)


def test_while_none_comes_up_what_waits_is_told_but_not_what_a_retired_worker_runs() -> None:
    async def scene(played: Played) -> None:
        retired, served = played.reports
        played.reports = [retired]
        played.up(0)
        played.reports = [served]
        played.up(1)
        for name in range(3):
            played.submit(name, model=0)
        played.submit(3, model=1)
        await turn()
        played.batcher.worker_down(1)
        played.batcher.fail_waiting(Unavailable("worker_lost", "none is up"))
        assert kinds(played.outcomes[3]) == [Unavailable]
        for _ in range(3):
            message = played.take(0)
            assert message is not None
            played.reply(message)
            await turn()
        assert [kinds(played.outcomes[name]) for name in range(3)] == [[Result]] * 3

    assert len(play(scene, workers=2, models=2, max_batch_size=1).free) == SLOTS


class Chaos(Played):
    """Whatever clients and workers may do, in any order."""

    def __init__(self) -> None:
        super().__init__(workers=2, models=2, max_batch_size=3)
        self.tasks: list[ImageTask] = []
        self.left: set[int] = set()
        self.held: list[tuple[int, BatchMessage]] = []

    def come(self, which: int) -> None:
        if self.free:
            self.tasks.append(self.submit(len(self.tasks), model=which % 2))

    def leave(self, which: int) -> None:
        if which < len(self.tasks):
            self.batcher.withdraw(self.tasks[which])
            self.left.add(which)

    def work(self, which: int) -> None:
        if message := self.take(which % 2):
            self.held.append((which % 2, message))

    def answer(self, which: int) -> None:
        if self.held:
            worker, message = self.held.pop(which % len(self.held))
            self.reply(message, worker)

    def die(self, which: int) -> None:
        self.held = [(worker, message) for worker, message in self.held if worker != which % 2]
        self.batcher.worker_down(which % 2)

    def rise(self, which: int) -> None:
        self.die(which)
        self.up(which % 2)


ACTS = (Chaos.come, Chaos.leave, Chaos.work, Chaos.answer, Chaos.die, Chaos.rise)
STEPS = st.lists(st.tuples(st.sampled_from([*ACTS, None]), st.integers(0, 7)), max_size=60)


@settings(max_examples=150)
@given(STEPS)
def test_whatever_happens_every_image_gets_one_outcome_and_every_slot_returns_once(
    steps: list[tuple[Callable[[Chaos, int], None] | None, int]],
) -> None:
    async def scene() -> None:
        chaos = Chaos()
        for act, which in steps:
            if act:
                act(chaos, which)
            else:
                await turn()
        for worker in range(2):
            chaos.rise(worker)
        while len(chaos.free) < SLOTS:
            await turn()
            for worker in range(2):
                chaos.work(worker)
            chaos.answer(0)
        chaos.close()
        for name in range(len(chaos.tasks)):
            outcomes = len(chaos.outcomes[name])
            assert outcomes == 1 or (outcomes == 0 and name in chaos.left)

    asyncio.run(asyncio.wait_for(scene(), 30))
