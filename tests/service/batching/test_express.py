"""Which images express threads get, and that a model which asks for much gets none."""

import asyncio
from dataclasses import dataclass, field, replace

import numpy as np

from service.batching.batch_policy import ModelQueue, WorkerQueue
from service.batching.express import ExpressBudget, express_batch
from service.batching.image_task import ImageTask
from service.batching.wait_estimate import LatencyModel
from service.ipc.reports import ModelReport
from service.policy import (
    DEMAND_NS,
    EXPRESS_BURST_NS,
    EXPRESS_IMAGE_NS,
    EXPRESS_PAUSE_MOST_NS,
    EXPRESS_PAUSE_NS,
    EXPRESS_RATIO,
    EXPRESS_SHARE,
    LEAD_NS,
    QUICK_SLICE_NS,
    SUSPECT_NS,
)
from tests.service.batching.played_batcher import Played, play
from tests.service.core_slices import Scheduled, needs_core_slices
from tests.service.event_loop import turn

MS, SECOND = 1_000_000, 1_000_000_000
NOW_NS = 100 * SECOND
QUICK, SLOW = 0, 1
QUICK_MS, SLOW_MS = 1.0, 50.0


def task(slot: int, *, retried: bool = False, left_ns: int = SECOND) -> ImageTask:
    return ImageTask(slot, QUICK, 1, NOW_NS + left_ns, lambda: None, queued_ns=NOW_NS, retried=retried)


def queue_of(image_ms: float, *tasks: ImageTask, age_ns: int = 0) -> ModelQueue:
    """A model's queue, whose newest image has come so long ago."""
    latency = LatencyModel()
    latency.learn(ModelReport(0, "ready", max_batch_size=64, batch_latency_ms=((1, image_ms), (64, 64 * image_ms))))
    queue = ModelQueue(latency, newest_ns=NOW_NS - age_ns)
    queue.tasks.update(dict.fromkeys(tasks))
    return queue


@dataclass
class Scene:
    """Two workers, whose express threads have the quick model; what waits for it, and the slow model beside it."""

    quick: ModelQueue
    slow: ModelQueue = field(default_factory=lambda: queue_of(SLOW_MS))

    def __post_init__(self) -> None:
        firsts = [WorkerQueue(row, 0, [0], models=frozenset({QUICK, SLOW}), up=True) for row in (0, 1)]
        self.threads = [
            WorkerQueue(2 + row, 0, [0], models=frozenset({QUICK}), beside=first, up=True)
            for row, first in enumerate(firsts)
        ]
        self.budget = ExpressBudget()

    def sent(self, now_ns: int = NOW_NS) -> tuple[int, list[int]] | None:
        """To which thread the next batch goes, and which slots."""
        batch = express_batch([self.quick, self.slow], [self.budget, ExpressBudget()], self.threads, now_ns)
        return batch and (batch.worker.worker, [one.slot for one in batch.tasks])


def test_quick_images_go_to_an_express_thread_while_slow_ones_are_in_demand() -> None:
    assert Scene(queue_of(QUICK_MS, task(3), task(4))).sent() == (2, [3, 4])
    assert Scene(queue_of(QUICK_MS)).sent() is None
    assert Scene(queue_of(QUICK_MS, task(3)), queue_of(SLOW_MS, age_ns=DEMAND_NS)).sent() is None
    assert Scene(queue_of(QUICK_MS, task(3)), queue_of(SLOW_MS, task(4), age_ns=DEMAND_NS)).sent() == (2, [3])


def test_images_are_quick_beside_those_of_which_each_takes_so_many_times_as_long() -> None:
    assert Scene(queue_of(SLOW_MS / EXPRESS_RATIO, task(3))).sent() == (2, [3])
    assert Scene(queue_of(SLOW_MS / EXPRESS_RATIO * 1.01, task(3))).sent() is None


def test_a_batch_there_takes_no_longer_than_a_turn_of_the_loop() -> None:
    sent = Scene(queue_of(QUICK_MS, *map(task, range(64)))).sent()
    assert sent
    assert len(sent[1]) == LEAD_NS / (QUICK_MS * MS)


def test_the_thread_that_runs_gets_more_until_it_has_enough() -> None:
    scene = Scene(queue_of(0.05, task(3)))
    scene.threads[1].add(1, [task(9)], MS)
    assert scene.sent() == (3, [3])
    scene.threads[1].add(2, [task(9)], LEAD_NS)
    assert scene.sent() == (2, [3])
    scene.threads[0].add(3, [task(9)], LEAD_NS)
    assert scene.sent() is None


def test_an_image_waits_for_others_there_as_long_as_its_model_lets_it() -> None:
    scene = Scene(queue_of(QUICK_MS, task(3)))
    scene.quick.delay_ns = 2 * MS
    assert scene.sent(NOW_NS + MS) is None
    assert scene.sent(NOW_NS + 2 * MS) == (2, [3])


def test_images_that_were_in_a_worker_which_died_do_not_run_there_nor_others_beside_them() -> None:
    scene = Scene(queue_of(QUICK_MS, task(3, retried=True), task(4)))
    assert scene.sent() == (2, [4])
    assert Scene(queue_of(QUICK_MS, task(3, retried=True))).sent() is None
    for thread, left in zip(scene.threads, [(3, [4]), None], strict=True):
        assert thread.beside
        thread.beside.loads_ns[0] = SUSPECT_NS
        assert scene.sent() == left


def test_an_expired_image_is_found() -> None:
    scene = Scene(queue_of(QUICK_MS, late := task(3, left_ns=0), task(4)))
    batch = express_batch([scene.quick, scene.slow], [scene.budget] * 2, scene.threads, NOW_NS)
    assert batch
    assert batch.expired == [late]


def ask(budget: ExpressBudget, share: float, seconds: float, begin_ns: int, image_ns: int = 40_000) -> float:
    """Images that come at random and take so large a share of two workers; when the first pause begins, in seconds."""
    each_ns = image_ns + EXPRESS_IMAGE_NS
    gaps_ns = np.random.default_rng(0).exponential(each_ns / (2 * share), int(seconds * 1e9 * 2 * share / each_ns))
    for now_ns in (begin_ns + np.cumsum(gaps_ns).astype(int)).tolist():
        budget.spend(1, image_ns, now_ns, 2)
        if budget.pause_until_ns > now_ns:
            return float(now_ns - begin_ns) / 1e9
    return np.inf


def test_a_model_that_asks_for_a_fifth_of_the_workers_has_no_pause() -> None:
    assert ask(ExpressBudget(), 0.2, 100.0, NOW_NS) == np.inf
    assert ask(ExpressBudget(), 0.2, 100.0, NOW_NS, image_ns=MS) == np.inf
    assert ask(ExpressBudget(), 0.2, 100.0, NOW_NS, image_ns=10 * MS) == np.inf


def test_a_model_that_asks_for_more_has_one_soon() -> None:
    """Of two workers' time it takes a half, and gets a quarter back."""
    expected_s = EXPRESS_BURST_NS / (2 * (0.5 - EXPRESS_SHARE)) / 1e9
    assert 0.5 * expected_s < ask(ExpressBudget(), 0.5, 10.0, NOW_NS) < 2 * expected_s


def test_an_overload_that_goes_on_is_tried_ever_more_rarely_and_one_that_has_ended_is_forgotten() -> None:
    scene, pauses_ns = Scene(queue_of(QUICK_MS, task(3))), []
    now_ns = NOW_NS
    for _ in range(7):
        assert ask(scene.budget, 0.5, 10.0, now_ns) < 1
        pauses_ns.append(scene.budget.pause_ns)
        now_ns = scene.budget.pause_until_ns
    assert pauses_ns == [min(EXPRESS_PAUSE_NS << i, EXPRESS_PAUSE_MOST_NS) for i in range(7)]
    assert scene.sent() is None
    ask(scene.budget, 0.5, 10.0, now_ns + 2 * EXPRESS_PAUSE_MOST_NS)
    assert scene.budget.pause_ns == EXPRESS_PAUSE_NS


# The batcher beside it


async def busy(played: Played, names: list[int]) -> None:
    """A worker with an express thread comes up, and has a slow image; then these quick ones come."""
    for model, image_ms in ((QUICK, QUICK_MS), (SLOW, SLOW_MS)):
        played.reports[model] = replace(played.reports[model], batch_latency_ms=((1, image_ms),))
    first, express = played.channels.shared_state.rows_of(0)
    played.epochs += [0] * (express - first)
    played.channels.shared_state.epochs[express] = played.epochs[express] = 1
    played.up()
    played.submit(50, SLOW)
    await turn()
    for name in names:
        played.submit(name, QUICK)
    await turn()


EXPRESS = 2  # its row where there is one worker, with two seats


def test_a_quick_image_is_answered_while_a_slow_one_runs() -> None:
    async def scene(played: Played) -> None:
        await busy(played, [1, 2])
        slow, quick = played.take(), played.take(EXPRESS)
        assert [played.names(slow), played.names(quick)] == [[50], [1, 2]]
        assert quick
        played.reply(quick, EXPRESS)
        await turn()
        assert [len(played.outcomes[name]) for name in (1, 2, 50)] == [1, 1, 0]
        assert not played.batcher.holds_none_but(range(SLOW))  # the slow one is still there

    play(scene, models=2)


@needs_core_slices
def test_the_event_loop_has_short_slices_of_a_core_while_there_is_an_express_thread() -> None:
    async def scene(played: Played) -> None:
        before = Scheduled.of(0)
        await busy(played, [1])
        assert Scheduled.of(0) == before._replace(slice_ns=QUICK_SLICE_NS)
        played.batcher.worker_down(0)
        assert Scheduled.of(0) == before

    play(scene, models=2)


def test_what_a_dead_worker_ran_in_either_thread_is_retried_alone_in_the_first_of_another_life() -> None:
    async def scene(played: Played) -> None:
        await busy(played, [1, 2])
        assert played.take()
        assert played.take(EXPRESS)
        lost = [one.slot for one in played.batcher.worker_down(0)]
        assert sorted(played.channels.slot_pool.pixels[lost, 0].tolist()) == [1, 2, 50]
        played.up()
        retried = []
        for _ in range(3):
            await turn()
            assert played.take(EXPRESS) is None
            message = played.take()
            assert message
            assert message.most == 0
            retried += played.names(message)
            played.reply(message)
        await turn()
        assert sorted(retried) == [1, 2, 50]
        assert [len(outcomes) for outcomes in played.outcomes.values()] == [1, 1, 1]

    play(scene, models=2)


def test_a_worker_that_has_no_express_thread_in_this_life_gets_all_by_its_first() -> None:
    async def scene(played: Played) -> None:
        await busy(played, [])
        played.batcher.worker_down(0)
        played.up()
        played.submit(1, QUICK)
        await turn()
        ran = []
        for _ in range(2):
            message = played.take()
            assert message
            ran += played.names(message)
            played.reply(message)
            await turn()
        assert sorted(ran) == [1, 50]

    play(scene, models=2)


def test_no_retired_worker_is_given_up_while_its_express_thread_has_an_image() -> None:
    async def scene(played: Played) -> None:
        await busy(played, [1])
        slow, quick = played.take(), played.take(EXPRESS)
        assert slow
        assert quick
        played.reply(slow)
        await turn()
        assert not played.batcher.holds_none_but(range(SLOW, SLOW + 1))
        played.reply(quick, EXPRESS)
        await turn()
        assert played.batcher.holds_none_but(range(SLOW, SLOW + 1))

    play(scene, models=2)


def test_a_successor_waits_for_express_threads_too() -> None:
    async def scene(played: Played) -> None:
        await busy(played, [])
        shared_state = played.channels.shared_state
        shared_state.taken[[0, EXPRESS], 0] = 5  # of a predecessor
        settling = asyncio.ensure_future(played.batcher.settle())
        for row in (0, EXPRESS):
            await turn()
            assert not settling.done()
            shared_state.done[row, 0] = 5
        await asyncio.wait_for(settling, 10)

    play(scene, models=2)
