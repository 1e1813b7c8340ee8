"""The queue and its batches: the test plays the workers at the other end of real pipes and slots."""

import asyncio
import time
from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.batching.image_task import ImageTask, Result
from service.errors import DeadlineExceeded, Unavailable
from service.ipc.messages import BatchMessage
from service.ipc.reports import ModelReport
from service.policy import LATE_NS, LEAD_NS
from tests.service.batching.played_batcher import IMAGE_MS, SLOTS, Played, kinds, play, turn


def test_what_arrives_together_travels_together_in_order() -> None:
    async def scene(played: Played) -> None:
        played.up()
        for name in range(6):
            played.submit(name)
        assert played.names(played.take()) == [0, 1, 2, 3]
        assert played.take() is None  # not before the turn is over
        await turn()
        assert played.names(played.take()) == [4, 5]

    play(scene, max_batch_size=4)


def test_a_batch_that_pays_is_sent_at_once_and_what_queues_behind_it_may_fill_a_larger_one() -> None:
    async def scene(played: Played) -> None:
        played.up()
        for name in range(9):
            played.submit(name)
        held = [played.take(), played.take()]
        assert [played.names(message) for message in held] == [[0, 1], [2, 3]]
        await turn()
        assert played.take() is None
        assert held[0] is not None
        played.reply(held[0])
        await turn()
        assert played.names(played.take()) == [4, 5, 6, 7]

    play(scene, max_batch_size=4, paying_batch_size=2)


def test_a_worker_gets_more_within_a_long_turn_of_the_loop() -> None:
    async def scene(played: Played) -> None:
        played.up()
        for name in range(6):
            played.submit(name)
        held = [played.take(), played.take()]
        assert [played.names(message) for message in held] == [[0, 1], [2, 3]]
        assert held[0] is not None
        played.reply(held[0])
        for name in range(6, 8):
            played.submit(name)
        assert played.names(played.take()) == [4, 5, 6, 7]
        assert kinds(played.outcomes[0]) == [Result]

    play(scene, max_batch_size=4, paying_batch_size=2)


def test_a_worker_is_sent_short_batches_ahead_for_as_long_as_a_turn_of_the_loop() -> None:
    image_ms = 0.45 * LEAD_NS / 1e6

    async def scene(played: Played) -> None:
        latency = ((1, image_ms), (4, 4 * image_ms))
        played.reports = [ModelReport(0, "ready", max_batch_size=4, paying_batch_size=1, batch_latency_ms=latency)]
        played.up()
        for name in range(9):
            played.submit(name)
        await turn()
        held = [played.take(), played.take(), played.take()]
        assert [played.names(message) for message in held] == [[0], [1], [2]]
        assert played.take() is None
        assert held[0] is not None
        played.reply(held[0])
        await turn()
        assert played.names(played.take()) == [3, 4, 5, 6]
        assert played.take() is None

    play(scene)


def test_a_worker_holds_one_batch_that_runs_and_one_that_waits() -> None:
    async def scene(played: Played) -> None:
        played.up()
        for name in range(4):
            played.submit(name)
        await turn()
        held = [played.take(), played.take()]
        assert [played.names(message) for message in held] == [[0], [1]]
        assert played.take() is None
        assert played.batcher.depth == 2
        assert held[0] is not None
        played.reply(held[0])
        await turn()
        assert played.names(played.take()) == [2]
        assert played.batcher.depth == 1

    play(scene, max_batch_size=1)


def test_nothing_is_sent_before_a_worker_is_up() -> None:
    async def scene(played: Played) -> None:
        played.submit(0)
        await turn()
        assert played.take() is None
        played.up()
        await turn()
        assert played.names(played.take()) == [0]

    play(scene)


def test_models_do_not_share_batches() -> None:
    async def scene(played: Played) -> None:
        played.up()
        for name in range(4):
            played.submit(name, model=name % 2)
        await turn()
        sent = []
        while message := played.take():
            assert played.take() is None  # a slow batch is not sent ahead while both are in demand
            sent.append((message.model, played.names(message)))
            played.reply(message)
            await turn()
        assert sent == [(0, [0]), (1, [1]), (0, [2]), (1, [3])]  # in turn, and none longer than an image of the other

    play(scene, models=2)


def test_work_goes_to_the_worker_that_has_least() -> None:
    async def scene(played: Played) -> None:
        played.reports = [ModelReport(0, "ready", max_batch_size=1, batch_latency_ms=((1, 100.0),))]
        played.up(0)
        played.up(1)
        for name in range(2):
            played.submit(name)
        await turn()
        assert [len(played.names(played.take(worker))) for worker in (0, 1)] == [1, 1]

    play(scene, workers=2)


def second(played: Played, image_ms: float) -> Played:
    """Another API process, beside workers that are up and take one image at a time."""
    other = Played(beside=played)
    for process in (played, other):
        process.reports = [ModelReport(0, "ready", max_batch_size=1, batch_latency_ms=((1, image_ms),))]
        for worker in range(played.channels.workers):
            process.up(worker)
    return other


def test_work_goes_where_no_other_api_process_has_sent_any() -> None:
    async def scene(played: Played) -> None:
        other = second(played, image_ms=100.0)
        for name, process in enumerate((played, other)):
            process.submit(name)
            await turn()
        assert [played.names(played.take(worker)) for worker in (0, 1)] == [[0], [1]]
        other.close()

    play(scene, workers=2)


def test_short_work_goes_to_the_worker_that_runs_until_that_has_enough() -> None:
    async def scene(played: Played) -> None:
        other = second(played, image_ms=0.4)
        for name, process in enumerate((played, other, played, other)):
            process.submit(name)
            await turn()
        assert [played.names(played.take(0)) for _ in range(3)] == [[0], [1], [2]]  # 1.2 ms
        assert played.names(played.take(1)) == [3]
        other.close()

    play(scene, workers=2)


@pytest.mark.parametrize(("image_ms", "workers"), [(0.06, [0, 0, 0, 0]), (0.07, [0, 0, 1, 1])])
def test_one_worker_is_enough_for_images_that_run_as_quickly_as_they_are_decoded(
    image_ms: float, workers: list[int]
) -> None:
    async def scene(played: Played) -> None:
        latency_ms = tuple((size, size * image_ms) for size in (1, 8))
        played.reports = [ModelReport(0, "ready", max_batch_size=8, paying_batch_size=8, batch_latency_ms=latency_ms)]
        played.up(0)
        played.up(1)
        for name in range(32):  # batches of 0.48 or 0.56 ms
            played.submit(name)
        await turn()
        batches = sorted([*played.names(played.take(worker)), worker] for worker in workers)
        assert [(batch[0], batch[-1]) for batch in batches] == list(zip((0, 8, 16, 24), workers, strict=True))

    play(scene, workers=2)


def test_a_worker_that_does_nothing_gets_no_more_while_another_is_idle() -> None:
    async def scene(played: Played) -> None:
        played.reports = [ModelReport(0, "ready", max_batch_size=1, batch_latency_ms=((1, 0.1),))]
        played.up(0)
        played.up(1)
        played.submit(0).queued_ns -= 2 * LATE_NS
        await turn()
        played.submit(1)
        await turn()
        assert [played.names(played.take(worker)) for worker in (0, 1)] == [[0], [1]]

    play(scene, workers=2)


def test_a_batch_for_which_other_processes_leave_no_room_is_sent_once_there_is_some() -> None:
    async def scene(played: Played) -> None:
        other = second(played, image_ms=0.01)
        for name in range(SLOTS):
            played.submit(name)
            await turn()
        assert played.batcher.depth > 0, "the pipe takes more than this test sends"
        other.submit(100)
        await turn()
        assert other.batcher.depth == 1
        read = []
        while message := played.take():
            read += played.names(message)
            await turn()
        assert sorted(read) == [*range(SLOTS), 100]
        other.close()

    play(scene)


def test_a_successor_is_not_forgotten_while_its_predecessors_batches_fill_the_pipe() -> None:
    async def scene(played: Played) -> None:
        second(played, image_ms=0.01).close()
        for name in range(SLOTS):
            played.submit(name)
            await turn()
        successor = Played(beside=played)
        successor.up()
        settling = asyncio.ensure_future(successor.batcher.settle())
        await turn()
        fences = []
        while message := played.take():
            fences += [message] if not message.slots else []
            await turn()
        assert [fence.api for fence in fences] == [successor.api]
        assert not settling.done()
        successor.batcher.worker_down(0)
        await asyncio.wait_for(settling, 10)
        successor.close()

    play(scene)


def test_an_image_whose_client_has_left_is_not_sent() -> None:
    async def scene(played: Played) -> None:
        leaver = played.submit(0)
        played.submit(1)
        played.batcher.withdraw(leaver)
        assert leaver.slot in played.free  # before there is any worker that could have been told
        assert played.batcher.depth == 1
        played.up()
        await turn()
        assert played.names(played.take()) == [1]

    assert play(scene).outcomes[0] == []


def test_an_expired_image_is_answered_and_never_sent() -> None:
    async def scene(played: Played) -> None:
        played.submit(0, timeout_s=0.0)
        played.submit(1)
        played.up()
        await turn()
        assert played.names(played.take()) == [1]
        assert kinds(played.outcomes[0]) == [DeadlineExceeded]

    play(scene)


def test_a_dead_workers_batch_is_retried_one_by_one_and_once() -> None:
    async def scene(played: Played) -> None:
        played.up()
        for name in range(3):
            played.submit(name)
        await turn()
        assert played.names(played.take()) == [0, 1, 2]
        played.batcher.worker_down(0)
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
            assert message.alone
            played.reply(message)
            await turn()
            assert kinds(played.outcomes[name]) == [Result]

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


def test_a_batch_that_may_fill_waits_for_others_and_then_goes() -> None:
    async def scene(played: Played) -> None:
        played.up()
        first = played.submit(0)
        await turn()
        played.submit(1)
        while (message := played.take()) is None:
            await asyncio.sleep(0)
        assert time.monotonic_ns() >= first.queued_ns + 19_000_000  # less the timer's rounding
        assert played.names(message) == [0, 1]

    play(scene, delay=0.02)


def test_a_full_batch_does_not_wait() -> None:
    async def scene(played: Played) -> None:
        played.up()
        for name in range(4):
            played.submit(name)
        await turn()
        assert played.names(played.take()) == [0, 1, 2, 3]

    play(scene, delay=1.0)


def test_a_successor_waits_until_the_workers_are_done_with_its_predecessors_slots() -> None:
    async def scene(played: Played) -> None:
        played.up()
        settling = asyncio.ensure_future(played.batcher.settle())
        await turn()
        fence = played.take()
        assert fence is not None
        assert fence.slots == ()
        assert not settling.done()
        played.reply(fence)
        await asyncio.wait_for(settling, 10)

    play(scene)


def test_at_the_end_every_image_gets_the_error() -> None:
    async def scene(played: Played) -> None:
        played.up()
        for name in range(3):
            played.submit(name)
        await turn()
        held = played.take()
        played.batcher.fail_all(Unavailable("draining", "the end"))
        assert [kinds(played.outcomes[name]) for name in range(3)] == [[Unavailable]] * 3
        assert held is not None
        assert len(played.free) == SLOTS - 2  # one batch runs and one waits: a worker may still write there
        played.reply(held)
        await turn()
        assert len(played.free) == SLOTS - 1

    play(scene, max_batch_size=1)


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


@settings(derandomize=True, deadline=None, max_examples=150)
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


def test_a_model_that_one_worker_lacks_is_sent_to_the_other_alone_and_its_failure_spoils_no_size() -> None:
    async def scene(played: Played) -> None:
        played.reports = [replace(played.reports[0]), replace(played.reports[1])]
        played.up(1)
        played.reports[1] = ModelReport(1, "failed", reason="no memory")
        played.up(0)
        for name in range(8):
            played.submit(name, model=1)
        await turn()
        assert played.take(0) is None
        assert played.names(played.take(1)) == [0, 1, 2, 3]
        assert played.estimate.latencies[1].image_ns == IMAGE_MS * 1e6

    play(scene, workers=2, models=2)
