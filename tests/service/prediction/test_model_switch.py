"""Other models are served from one message on: what waits for a worker is done by it, all else by the new ones."""

import asyncio
import json
import os
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from select import PIPE_BUF

from models.artifact.artifact import Artifact, read_artifact
from service.catalog.catalog import Catalog
from service.ipc.control import Begin, ControlMessage, ControlReader, ModelsTaken, NewModels, WorkerDown, WorkerUp
from service.ipc.messages import BatchMessage, Reply
from service.ipc.slots import OK
from service.parsing.head import Target
from tests.artifacts import make_artifact
from tests.service.event_loop import turn
from tests.service.pictures import pixels
from tests.service.prediction.played import REPORT, PlayedProcess, Sent, head, picture, play
from tests.service.served import DEADLINE_S

SET = 5  # number of the set of models
NEW, SEAT = 1, 1  # the new model's number, and the seat of its worker


def new_models(process: PlayedProcess, artifact: Artifact) -> NewModels:
    """Version 3 in place of version 2, in a worker of its own."""
    old = Catalog((artifact,), {}, 0)
    catalog = replace(old, artifacts=(replace(artifact, version=3),)).beside(old)
    assert list(catalog.numbers) == [NEW]
    process.channels.shared_state.epochs[SEAT] = 1
    return NewModels(SET, catalog.pickle(), (WorkerUp(SEAT, 1, (replace(REPORT, model=NEW),)),))


def told(process: PlayedProcess) -> Callable[[], list[ControlMessage]]:
    """What the process has told the supervisor, since the last call."""
    heard: list[ControlMessage] = []
    reader = ControlReader(process.channels.api_reports[0], heard.append)

    def read() -> list[ControlMessage]:
        heard.clear()
        reader.read()
        return list(heard)

    return read


def answer_at_new_worker(process: PlayedProcess, model: int = NEW) -> None:
    """Run the batch that it was sent."""
    message = BatchMessage.unpack(os.read(process.channels.requests[SEAT].reader, PIPE_BUF))
    assert message.model == model
    process.channels.slot_pool.statuses[list(message.slots)] = OK
    now_ns = time.monotonic_ns()
    reply = Reply(SEAT, 1, message.batch, now_ns, now_ns, len(message.slots), counts=True)
    os.write(process.channels.replies[0].writer, reply.pack())


async def begin(process: PlayedProcess) -> Callable[[], list[ControlMessage]]:
    """The old worker is up, and the process has settled."""
    read = told(process)
    process.api._on_message(Begin(SET - 1))
    await turn()
    process.up()
    assert read() == [ModelsTaken(SET - 1, released=True)]
    return read


def test_what_a_retired_worker_has_is_answered_by_it_and_the_next_request_by_the_new_one(artifact: Artifact) -> None:
    async def scene(process: PlayedProcess) -> None:
        read = await begin(process)
        first = Sent(process, head(len(picture(1))), picture(1)).send()
        batch = await process.taken()
        process.api._on_message(new_models(process, artifact))
        assert read() == [ModelsTaken(SET, released=False)]
        second = Sent(process, head(len(picture(1))), picture(1)).send()
        await turn()
        answer_at_new_worker(process)
        assert (await second.response()).version == "3"
        assert process.take() is None
        assert read() == []
        process.reply(batch)
        assert (await first.response()).version == "2"
        while not (message := read()):
            await turn()
        assert message == [ModelsTaken(SET, released=True)]
        process.api._on_message(WorkerDown(0))
        assert process.api.ready
        assert [process.count("requests_total", model="plain", version=v, outcome="ok") for v in "23"] == [1, 1]

    play(scene, artifact)


def test_a_request_whose_body_ends_after_the_switch_is_answered_by_the_new_version(artifact: Artifact) -> None:
    async def scene(process: PlayedProcess) -> None:
        read = await begin(process)
        request = Sent(process, head(len(picture(1))), picture(1)).begin().feed(10)
        process.api._on_message(new_models(process, artifact))
        assert read() == [ModelsTaken(SET, released=False), ModelsTaken(SET, released=True)]
        request.feed().request.complete()
        await turn()
        answer_at_new_worker(process)
        assert (await request.response()).version == "3"
        assert request.document["version"] == "3"

    play(scene, artifact)


def test_a_request_whose_body_ends_after_the_switch_gets_no_more_classes_than_the_new_version_has(
    artifact: Artifact, tmp_path: Path
) -> None:
    async def scene(process: PlayedProcess) -> None:
        await begin(process)
        asked = replace(head(len(picture(1))), query=b"top_k=9")
        request = Sent(process, asked, picture(1)).begin()
        smaller = read_artifact(make_artifact(tmp_path, "plain", labels=("no", "yes")))
        process.api._on_message(new_models(process, smaller))
        request.feed().request.complete()
        await turn()
        answer_at_new_worker(process)
        await request.response()
        assert len(request.document["predictions"]) == 2  # type: ignore[arg-type]

    play(scene, artifact)


def test_pixels_that_do_not_fit_the_version_of_after_the_switch_are_refused(artifact: Artifact) -> None:
    async def scene(process: PlayedProcess) -> None:
        await begin(process)
        data = pixels(3).tolist()
        tensor = {"name": "image", "shape": [1, *pixels().shape], "datatype": "UINT8", "data": data}
        body = json.dumps({"inputs": [tensor]}).encode()
        target = Target("/v2/models/{model}/infer", "plain", is_inference=True)
        taken, refused = (Sent(process, head(len(body), target=target), body).begin() for _ in range(2))
        process.api._on_message(new_models(process, artifact))
        taken.feed().request.complete()
        await turn()
        answer_at_new_worker(process)
        assert (await taken.response()).status == 200
        process.services.models.by_index[NEW].input_shape = (4, 8, 1)
        refused.feed().request.complete()
        assert refused.responses[0].status == 400
        assert b"images of (4, 8, 1)" in refused.responses[0].body

    play(scene, artifact)


def test_what_waits_for_a_retired_worker_that_died_is_done_by_its_successor(artifact: Artifact) -> None:
    async def scene(process: PlayedProcess) -> None:
        read = await begin(process)
        first = Sent(process, head(len(picture(1))), picture(1)).send()
        await process.taken()
        process.api._on_message(new_models(process, artifact))
        process.die()
        await turn()
        assert read() == [ModelsTaken(SET, released=False)]
        process.epoch += 1
        process.api._on_message(WorkerUp(0, process.epoch, (REPORT,), retired=True))
        process.reply(await process.taken())
        assert (await first.response()).version == "2"

    play(scene, artifact)


def test_a_successor_leaves_retired_workers_alone_once_its_predecessors_batches_are_done(artifact: Artifact) -> None:
    async def scene(process: PlayedProcess) -> None:
        read = told(process)
        shared_state = process.channels.shared_state
        shared_state.taken[0, 0] = 5
        retired = WorkerUp(0, 1, (replace(REPORT, model=7),), retired=True)  # of a model that it has never known
        process.api._on_message(retired)
        process.api._on_message(WorkerUp(SEAT, 1, (REPORT,)))
        process.api._on_message(Begin(SET))
        await turn()
        assert read() == []
        shared_state.done[0, 0] = 5
        async with asyncio.timeout(DEADLINE_S):
            await process.api._settling
        assert read() == [ModelsTaken(SET, released=True)]

    play(scene, artifact)
