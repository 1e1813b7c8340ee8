"""The queue and its batches: the test plays the workers at the other end of real pipes and slots."""

import asyncio
import copy
import os
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from select import PIPE_BUF

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.batching.batcher import Batcher
from service.batching.image_task import ImageTask, Result
from service.batching.wait_estimate import WaitEstimate
from service.errors import DeadlineExceeded, InternalError, ServiceError, Unavailable
from service.ipc.channels import Channels
from service.ipc.messages import BatchMessage, Reply
from service.ipc.reports import ModelReport
from service.ipc.slots import EXPIRED, FAILED, OK
from service.policy import LATE_NS, LEAD_NS

SLOTS, CLASSES, PIXELS = 32, 4, 6
IMAGE_MS = 3.0  # what an image costs at warm-up: more than a worker is given ahead
TOLD_NS = 5, 3_000_005  # when the played worker says that it took a batch up and was done


def in_another_process(channels: Channels) -> Channels:
    """The same channels with descriptors of their own."""
    others = copy.copy(channels)
    for name in ("requests", "replies", "reports", "api_reports"):
        pipes = [copy.copy(pipe) for pipe in getattr(channels, name)]
        for pipe in pipes:
            pipe.reader, pipe.writer = os.dup(pipe.reader), os.dup(pipe.writer)
        setattr(others, name, pipes)
    return others


class Played:
    """A batcher, its clients and its workers."""

    def __init__(
        self,
        workers: int = 1,
        models: int = 1,
        max_batch_size: int = 4,
        paying_batch_size: int = 0,
        delay: float = 0.0,
        beside: "Played | None" = None,
    ) -> None:
        """`beside`: the first of two API processes, whose workers and shared state this one uses."""
        self.channels = in_another_process(beside.channels) if beside else Channels(workers, 2, SLOTS, PIXELS, CLASSES)
        self.api = 1 if beside else 0
        self.free = set(self.channels.slots_of(self.api))
        self.outcomes: dict[int, list[Result | ServiceError]] = {}
        self.batches: list[tuple[int, int, int]] = []
        latency_ms = tuple((size, size * IMAGE_MS) for size in dict.fromkeys((1, max_batch_size)))
        self.reports = [
            ModelReport(
                model,
                "ready",
                max_batch_size=max_batch_size,
                paying_batch_size=paying_batch_size or max_batch_size,
                batch_latency_ms=latency_ms,
            )
            for model in range(models)
        ]
        self.epochs = [0] * self.channels.workers
        self.estimate = WaitEstimate(self.api, self.channels.shared_state, models)
        self.batcher = Batcher(
            self.api,
            self.channels,
            [delay] * models,
            self.estimate,
            self.release,
            lambda *batch: self.batches.append(batch),
        )

    def close(self) -> None:
        self.batcher.close()
        self.channels.close()

    def release(self, slots: Sequence[int]) -> None:
        assert len(set(slots)) == len(slots), f"one of {slots} was released twice"
        assert self.free.isdisjoint(slots), f"one of {slots} was released twice"
        self.free.update(slots)

    def submit(self, name: int, model: int = 0, timeout_s: float = 60.0, top_k: int = 2) -> ImageTask:
        """Queue an image whose pixels all are `name`."""
        self.outcomes[name] = []
        deadline_ns = time.monotonic_ns() + int(timeout_s * 1e9)
        task = ImageTask(self.free.pop(), model, top_k, deadline_ns, lambda: self.outcomes[name].append(task.outcome))
        self.batcher.submit(task, np.full(PIXELS, name, np.uint8))
        return task

    def up(self, worker: int = 0) -> None:
        self.epochs[worker] += 1
        self.estimate.worker_up(worker, self.reports)
        self.batcher.worker_up(worker, self.epochs[worker], self.reports)

    def take(self, worker: int = 0) -> BatchMessage | None:
        """What the worker would read next, if anything waits for it."""
        os.set_blocking(self.channels.requests[worker].reader, False)
        try:
            while (message := self._read(worker)).epoch != self.epochs[worker]:
                pass  # it was meant for the worker's predecessor
        except BlockingIOError:
            return None
        self.channels.shared_state.taken[worker, 0] = message.batch
        return message

    def _read(self, worker: int) -> BatchMessage:
        return BatchMessage.unpack(os.read(self.channels.requests[worker].reader, PIPE_BUF))

    def names(self, message: BatchMessage | None) -> list[int]:
        """Whose images a batch holds."""
        assert message is not None
        return self.channels.slot_pool.pixels[list(message.slots), 0].tolist()

    def reply(self, message: BatchMessage, worker: int = 0, status: int = OK, epoch: int | None = None) -> None:
        pool = self.channels.slot_pool
        for slot in message.slots:
            pool.statuses[slot] = status
            pool.indices[slot] = [pool.pixels[slot, 0], 1, 2, 3]
            pool.probabilities[slot] = [0.7, 0.1, 0.1, 0.1]
        told = Reply(
            worker,
            message.epoch if epoch is None else epoch,
            message.batch,
            *TOLD_NS,
            len(message.slots),
            status != EXPIRED,
        )
        os.write(self.channels.replies[0].writer, told.pack())


async def turn() -> None:
    """Let the loop do what is due: callbacks, and what pipes hold."""
    for _ in range(3):
        await asyncio.sleep(0)


def play(scene: Callable[[Played], Awaitable[None]], **options: float) -> Played:
    async def run() -> Played:
        played = Played(**options)  # type: ignore[arg-type]
        try:
            await scene(played)
        finally:
            played.close()
        return played

    return asyncio.run(run())


def kinds(outcomes: Sequence[Result | ServiceError]) -> list[type]:
    return [type(outcome) for outcome in outcomes]


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


def test_each_result_reaches_its_own_image() -> None:
    async def scene(played: Played) -> None:
        played.up()
        for name in range(3):
            played.submit(name, top_k=1 + name)
        await turn()
        message = played.take()
        assert message is not None
        assert message.top_k == 3
        played.reply(message)
        await turn()
        for name in range(3):
            (result,) = played.outcomes[name]
            assert isinstance(result, Result)
            assert (result.indices[0], len(result.indices), len(result.probabilities)) == (name, 1 + name, 1 + name)
            assert (result.batch_size, result.taken_ns, result.done_ns) == (3, *TOLD_NS)

    played = play(scene)
    assert len(played.free) == SLOTS
    assert played.batches == [(0, 3, TOLD_NS[1] - TOLD_NS[0])]


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


def test_a_slot_that_a_worker_holds_returns_only_with_its_reply() -> None:
    async def scene(played: Played) -> None:
        played.up()
        leaver = played.submit(0)
        await turn()
        message = played.take()
        assert message is not None
        played.batcher.withdraw(leaver)
        await turn()
        assert leaver.slot not in played.free
        played.reply(message)
        await turn()
        assert leaver.slot in played.free

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


@pytest.mark.parametrize(("status", "error"), [(EXPIRED, DeadlineExceeded), (FAILED, InternalError)])
def test_what_the_worker_could_not_do_is_an_error(status: int, error: type[ServiceError]) -> None:
    async def scene(played: Played) -> None:
        played.up()
        played.submit(0)
        await turn()
        message = played.take()
        assert message is not None
        played.reply(message, status=status)
        await turn()
        assert kinds(played.outcomes[0]) == [error]

    played = play(scene)
    assert len(played.free) == SLOTS
    assert played.batches == ([] if status == EXPIRED else [(0, 1, TOLD_NS[1] - TOLD_NS[0])])


def test_a_reply_of_a_worker_that_has_died_is_ignored() -> None:
    async def scene(played: Played) -> None:
        played.up()
        played.submit(0)
        await turn()
        old = played.take()
        played.batcher.worker_down(0)
        played.up()
        await turn()
        new = played.take()
        assert old is not None
        assert new is not None
        played.reply(old)
        await turn()
        assert played.outcomes[0] == []
        played.reply(new)
        await turn()
        assert kinds(played.outcomes[0]) == [Result]

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


def test_a_batch_of_a_model_that_failed_to_report_and_an_image_whose_request_fails_cost_no_other_its_slot() -> None:
    async def scene(played: Played) -> None:
        played.up()
        broken = played.submit(0)

        def fail() -> None:
            raise RuntimeError("a fault of ours")

        broken.on_done = fail
        played.submit(1)
        await turn()
        message = played.take()
        played.reply(message)
        await turn()
        assert kinds(played.outcomes[1]) == [Result]

    assert len(play(scene).free) == SLOTS
