"""What becomes of the workers' replies: each image has its own outcome, and its slot is free."""

import fcntl
import os
from typing import Any

import pytest

from service.batching.image_task import Result
from service.errors import DeadlineExceeded, InternalError, ServiceError
from service.ipc.messages import Reply
from service.ipc.slots import EXPIRED, FAILED
from tests.service.batching.played_batcher import SLOTS, TOLD_NS, Played, kinds, play
from tests.service.event_loop import turn

NOTHING: Any = None  # in the place of what cannot be read


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


@pytest.mark.parametrize(("status", "error"), [(EXPIRED, DeadlineExceeded), (FAILED, InternalError)])
def test_what_the_worker_could_not_do_is_an_error(status: int, error: type[ServiceError]) -> None:
    async def scene(played: Played) -> None:
        played.up()
        message = await played.sent(0)
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


def test_results_that_cannot_be_read_are_an_error_of_each_image_and_cost_no_slot() -> None:
    async def scene(played: Played) -> None:
        played.up()
        message = await played.sent(0, 1)
        played.reply(message)
        statuses, played.channels.slot_pool.statuses = played.channels.slot_pool.statuses, NOTHING
        await turn()
        assert [kinds(played.outcomes[name]) for name in range(2)] == [[InternalError]] * 2
        played.channels.slot_pool.statuses = statuses
        played.submit(2)
        await turn()
        played.reply(played.take())
        await turn()
        assert kinds(played.outcomes[2]) == [Result]

    assert len(play(scene).free) == SLOTS


def test_a_reply_of_a_workers_former_life_is_no_answer_though_its_batch_has_the_same_number() -> None:
    """Batches are numbered anew by each API process, so a predecessor's may be the successor's, too."""

    async def scene(played: Played) -> None:
        played.up()
        played.up()
        message = await played.sent(7)
        played.reply(message, epoch=message.epoch - 1, status=FAILED)
        await turn()
        assert played.outcomes[7] == []
        played.reply(message)
        await turn()
        assert kinds(played.outcomes[7]) == [Result]

    play(scene)


def test_replies_are_read_whole_from_a_pipe_that_holds_more_than_one_read_takes() -> None:
    """As by itself where the kernel's pages have 64 KiB, as on many ARM64 machines."""

    async def scene(played: Played) -> None:
        played.up()
        message = await played.sent(0)
        writer = played.channels.replies[0].writer
        fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, 1 << 20)
        of_no_batch = Reply(0, message.epoch, 0, 0, 0, 0, counts=False).pack()
        for _ in range((1 << 16) // len(of_no_batch)):
            os.write(writer, of_no_batch)
        played.reply(message)
        await turn()
        await turn()
        assert kinds(played.outcomes[0]) == [Result]

    assert len(play(scene).free) == SLOTS
