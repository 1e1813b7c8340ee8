"""The queue and its batches: the test plays the workers at the other end of real pipes and slots."""

import asyncio
import time
from dataclasses import replace

import numpy as np
import pytest

from service.batching.image_task import ImageTask, Result
from service.errors import DeadlineExceeded
from service.ipc.reports import ModelReport
from service.policy import LATE_NS, LEAD_NS
from tests.service.batching.played_batcher import IMAGE_MS, PIXELS, SLOTS, Played, kinds, play, second
from tests.service.event_loop import turn


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


def test_a_batch_that_pays_is_sent_at_once_and_what_queues_behind_it_may_fill_a_larger_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
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

    monkeypatch.setattr("service.batching.wait_estimate.PAYING_IMAGES", 2)
    play(scene, max_batch_size=4)


def test_a_worker_gets_more_within_a_long_turn_of_the_loop(monkeypatch: pytest.MonkeyPatch) -> None:
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

    monkeypatch.setattr("service.batching.wait_estimate.PAYING_IMAGES", 2)
    play(scene, max_batch_size=4)


@pytest.mark.parametrize(
    ("admitted", "batches"), [(4, [[0, 1], [2, 3]]), (8, [[0, 1, 2, 3], None]), (99, [[0, 1, 2, 3], None])]
)
def test_where_more_are_admitted_batches_of_a_turn_are_larger(
    admitted: int, batches: list[list[int] | None], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scene(played: Played) -> None:
        played.up()
        played.estimate.add(0, admitted)
        for name in range(4):
            played.submit(name)
        assert [message and played.names(message) for message in (played.take(), played.take())] == batches

    monkeypatch.setattr("service.batching.wait_estimate.PAYING_IMAGES", 2)
    play(scene, max_batch_size=8)


def test_a_worker_is_sent_short_batches_ahead_for_as_long_as_a_turn_of_the_loop(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    image_ms = 0.45 * LEAD_NS / 1e6

    async def scene(played: Played) -> None:
        latency = ((1, image_ms), (4, 4 * image_ms))
        played.reports = [ModelReport(0, "ready", max_batch_size=4, batch_latency_ms=latency)]
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

    monkeypatch.setattr("service.batching.wait_estimate.PAYING_IMAGES", 1)
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


def test_as_many_may_run_with_a_batch_as_the_largest_has_unless_another_model_is_in_demand() -> None:
    """One of IMAGE_MS is as much as that one is to wait for, whichever API processes send them."""

    async def scene(played: Played) -> None:
        played.up()
        most = []
        for name in range(2):
            played.submit(name, model=name)
            await turn()
            message = played.take()
            assert message
            most.append(message.most)
            played.reply(message)
            await turn()
        assert most == [4, 1]

    play(scene, models=2)


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
        played.reports = [ModelReport(0, "ready", max_batch_size=8, batch_latency_ms=latency_ms)]
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


def test_an_image_that_the_end_of_an_expired_one_withdraws_is_not_sent() -> None:
    """Its slot may hold another's pixels by then."""

    async def scene(played: Played) -> None:
        expired, mate = played.submit(0, timeout_s=0.0), played.submit(1)
        expired.on_done = lambda: played.batcher.withdraw(mate)
        played.up()
        await turn()
        assert played.take() is None

    assert len(play(scene).free) == SLOTS


def test_the_slot_of_pixels_that_do_not_fit_is_free() -> None:
    async def scene(played: Played) -> None:
        task = ImageTask(played.free.pop(), 0, 1, 0, lambda: None)
        with pytest.raises(ValueError, match="7 bytes of pixels"):
            played.batcher.submit(task, np.zeros(PIXELS + 1, np.uint8))

    assert len(play(scene).free) == SLOTS


def test_images_that_wait_for_another_model_now_end_only_later() -> None:
    """Whoever moves them still has to count their slots for that model, which none of them may have given back."""

    async def scene(played: Played) -> None:
        played.up()
        await turn()
        tasks = [played.submit(0, timeout_s=0.0), played.submit(1)]
        assert played.batcher.move_tasks(0, 1) == tasks
        assert played.free.isdisjoint(task.slot for task in tasks)
        await turn()
        assert kinds(played.outcomes[0]) == [DeadlineExceeded]
        assert played.names(played.take()) == [1]

    play(scene, models=2)


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


def test_a_batch_goes_in_time_for_the_deadline_of_any_of_its_images() -> None:
    async def scene(played: Played) -> None:
        played.up()
        played.submit(0)
        await turn()
        played.submit(1, timeout_s=2.0)
        while (message := played.take()) is None:
            await asyncio.sleep(0)
        assert played.names(message) == [0, 1]
        timers = asyncio.get_running_loop()._scheduled  # type: ignore[attr-defined]
        assert all(timer.cancelled() for timer in timers)

    play(scene, delay=30.0)


def test_a_full_batch_does_not_wait() -> None:
    async def scene(played: Played) -> None:
        played.up()
        for name in range(4):
            played.submit(name)
        await turn()
        assert played.names(played.take()) == [0, 1, 2, 3]

    play(scene, delay=1.0)


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
