"""An API process does what the supervisor says through its pipe: opens, goes on, drains."""

import asyncio
import errno
import os
from contextlib import suppress
from select import PIPE_BUF

import pytest

from models.artifact.artifact import Artifact
from service.ipc.control import Begin, ControlMessage, ControlWriter, Drain, WorkerDown, WorkerUp
from service.ipc.reports import ModelReport
from service.policy import RESTART_WAIT_FACTOR, SUSPECT_NS
from service.prediction import api_process, restart_wait
from tests.service.event_loop import turn
from tests.service.prediction.played import REPORT, PlayedProcess, Sent, head, picture, play
from tests.service.served import DEADLINE_S

UP, DOWN = WorkerUp(0, 1, (REPORT,)), WorkerDown(0)
FAILED = WorkerUp(0, 1, (ModelReport(0, "failed", reason="why"),))


async def tell(process: PlayedProcess, *messages: ControlMessage) -> tuple[bool, bool]:
    """Whether it admits requests, and says that it is ready, once it has heard this."""
    for message in messages:
        ControlWriter(process.control).send(message)
        await turn()
    return process.services.admission.open, process.api.ready


@pytest.mark.parametrize(
    ("messages", "opens"),
    [
        ([], False),
        ([Begin()], False),
        ([UP], False),
        ([Begin(), UP], True),
        ([Begin(), FAILED], False),
        ([Begin(), FAILED, DOWN, UP], True),
    ],
    ids=["nothing", "no worker", "not all told", "all told and a worker", "a model that failed", "loaded at last"],
)
def test_requests_are_admitted_once_they_can_be_answered(
    artifact: Artifact, messages: list[ControlMessage], *, opens: bool
) -> None:
    async def scene(process: PlayedProcess) -> None:
        process.services.admission.open = False
        assert await tell(process, *messages) == (opens, opens)

    play(scene, artifact)


def test_a_successor_admits_none_before_the_workers_are_done_with_its_predecessors_slots(artifact: Artifact) -> None:
    async def scene(process: PlayedProcess) -> None:
        process.services.admission.open = False
        shared_state = process.channels.shared_state
        shared_state.taken[0, 0] = 5
        assert await tell(process, UP, Begin()) == (False, False)
        shared_state.done[0, 0] = 5
        async with asyncio.timeout(DEADLINE_S):
            await process.api._settling
        assert (process.services.admission.open, process.api.ready) == (True, True)

    play(scene, artifact)


def test_what_was_kept_back_from_a_worker_is_sent_at_the_next_beat_if_nobody_tells_that_it_is_free(
    artifact: Artifact,
) -> None:
    async def scene(process: PlayedProcess) -> None:
        process.up()
        loads_ns = process.channels.shared_state.loads_ns[0]
        loads_ns[-1] = SUSPECT_NS
        asked = Sent(process, head(len(picture(1))), picture(1)).send()
        await turn()
        while process.services.batcher.depth == 0:
            await turn()
        assert process.take() is None
        loads_ns[-1] = 0
        process.reply(await process.taken())
        assert (await asked.response()).status == 200

    play(scene, artifact)


def test_a_beat_that_fails_is_not_the_last(artifact: Artifact, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the next one the process would be killed, with all that it has, as one that hangs."""
    monkeypatch.setattr(api_process, "BEAT_INTERVAL_S", 0.001)

    async def scene(process: PlayedProcess) -> None:
        failures: list[object] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, context: failures.append(context["exception"]))
        beats = process.channels.shared_state.beats
        with monkeypatch.context() as fault:
            fault.setattr(process.api._gauges, "publish", _fail)
            while not failures:
                await turn()
        now = int(beats[0])
        while beats[0] < now + 2:
            await turn()

    play(scene, artifact)


def _fail() -> None:
    raise OSError(errno.EIO, "an answer of /proc that does not come")


def test_while_the_worker_restarts_accepted_requests_wait_for_it_and_others_are_refused(artifact: Artifact) -> None:
    async def scene(process: PlayedProcess) -> None:
        process.services.admission.open = False
        assert await tell(process, Begin(), UP) == (True, True)
        process.epoch = 1
        accepted = Sent(process, head(len(picture(1))), picture(1)).send()
        assert await tell(process, DOWN) == (True, False)
        refused = Sent(process, head(len(picture(1))), picture(1)).begin()
        assert (refused.responses[0].status, refused.document["reason"]) == (503, "worker_lost")
        process.epoch = 2
        assert await tell(process, WorkerUp(0, 2, (REPORT,))) == (True, True)
        process.reply(await process.taken())
        assert (await accepted.response()).status == 200

    play(scene, artifact)


def test_accepted_requests_wait_for_a_worker_longer_than_a_quick_start_took(artifact: Artifact) -> None:
    """The next one may come on a busy machine, or after a pause."""
    start_s = 0.001

    async def scene(process: PlayedProcess) -> None:
        process.epoch = 1
        assert await tell(process, Begin(), WorkerUp(0, 1, (REPORT,), start_s)) == (True, True)
        accepted = Sent(process, head(len(picture(1))), picture(1)).send()
        assert await tell(process, DOWN) == (True, False)
        await asyncio.sleep(10 * start_s * RESTART_WAIT_FACTOR)
        assert accepted.responses == []
        assert ((await accepted.response()).status, accepted.document["reason"]) == (503, "worker_lost")

    play(scene, artifact)


def test_a_worker_that_comes_up_again_is_waited_for_no_more(
    artifact: Artifact, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it is at when the time to wait for it would have ended is not refused, nor is what comes from then on."""
    start_s = 0.01
    monkeypatch.setattr(restart_wait, "RESTART_WAIT_LEAST_S", 0.0)

    async def scene(process: PlayedProcess) -> None:
        assert await tell(process, Begin(), WorkerUp(0, 1, (REPORT,), start_s), DOWN) == (True, False)
        accepted = Sent(process, head(len(picture(1))), picture(1))
        assert accepted.begin().responses[0].status == 503
        process.epoch = 2
        assert await tell(process, WorkerUp(0, 2, (REPORT,), start_s)) == (True, True)
        later = Sent(process, head(len(picture(1))), picture(1)).send()
        assert later.responses == []
        batch = await process.taken()
        await asyncio.sleep(start_s * RESTART_WAIT_FACTOR)  # behind the timer that the worker's end has set
        process.reply(batch)
        assert (await later.response()).status == 200

    play(scene, artifact)


def test_what_it_tells_the_supervisor_follows_once_there_is_room(artifact: Artifact) -> None:
    """It may have nothing else to tell for hours."""

    async def scene(process: PlayedProcess) -> None:
        pipe = process.channels.api_reports[0]
        with suppress(BlockingIOError):
            while True:
                os.write(pipe.writer, bytes(PIPE_BUF))
        asking = asyncio.ensure_future(process.api.changes.ask("reread"))
        await turn()
        pipe.drain()
        come = asyncio.get_running_loop().create_future()
        asyncio.get_running_loop().add_reader(pipe.reader, come.cancel)
        await asyncio.wait([come], timeout=DEADLINE_S)
        assert come.cancelled()
        assert b"reread" in os.read(pipe.reader, PIPE_BUF)
        asyncio.get_running_loop().remove_reader(pipe.reader)
        asking.cancel()

    play(scene, artifact)


def test_a_draining_process_is_not_ready_stops_after_the_delay_and_refuses_what_is_left_at_the_end(
    artifact: Artifact,
) -> None:
    async def scene(process: PlayedProcess) -> None:
        assert await tell(process, Begin(), UP) == (True, True)
        waiting = Sent(process, head(len(picture(1))), picture(1)).send()
        process.connected.append(waiting.request)
        assert await tell(process, Drain(0.02, 0.0)) == (True, False)
        assert (process.stops, waiting.responses) == (0, [])
        response = await waiting.response()
        assert process.stops == 1
        assert (response.status, waiting.document["reason"]) == (503, "draining")
        late = Sent(process, head(1)).begin()
        assert (late.responses[0].status, late.document["reason"]) == (503, "draining")

    play(scene, artifact)
