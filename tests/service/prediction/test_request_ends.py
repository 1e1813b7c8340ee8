"""Requests that end otherwise, by their client or a fault of ours: everything that they held is given back."""

import asyncio
import gc
import json
import threading
from concurrent.futures import wait
from functools import partial
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from structlog.testing import capture_logs

from models.artifact.artifact import Artifact
from service.batching.decoding import Decoding, Pixels
from service.ipc.messages import BatchMessage
from service.prediction.request import PredictionRequest, RequestState
from service.prediction.response import Response
from tests.artifacts import LABELS
from tests.service.event_loop import turn
from tests.service.pictures import pixels
from tests.service.prediction.played import (
    PlayedProcess,
    Sent,
    check_ended,
    code,
    lone,
    many,
    picture,
    play,
)
from tests.service.served import DEADLINE_S

PLAIN = "plain", "2"


# Clients that leave

LEFT = {
    "before its body": PLAIN,
    "in its body": PLAIN,
    "while it is decoded": PLAIN,
    "while it waits for a worker": PLAIN,
    "while it is in a worker": PLAIN,
}


@pytest.mark.parametrize(("moment", "model"), LEFT.items(), ids=LEFT.keys())
def test_a_client_that_leaves_gets_no_response_and_what_it_held_is_free(
    artifact: Artifact, moment: str, model: tuple[str, str]
) -> None:
    """Slots that a worker was told to write to are free once it has replied."""

    async def scene(process: PlayedProcess) -> None:
        sent = many(process, picture(1), picture(2), picture(3, tiny=moment != "while it is decoded")).begin()
        message: BatchMessage | None = None
        if moment != "before its body":
            sent.feed(20)
        if moment.startswith("while"):
            sent.feed().request.complete()
        if moment == "while it is in a worker":
            process.up()
            await turn()
            message = process.take()
        state = sent.request.state
        sent.request.abandon()
        sent.request.abandon()
        assert process.count("inflight_requests") == 0
        if message:
            assert not process.is_whole()
            process.reply(message)
            await turn()
        await turn()
        assert process.is_whole()
        assert sent.responses == []
        assert process.counted("requests_total") == {(model[0], "cancelled", model[1]): 1}
        assert process.counted("http_requests_total") == {}
        assert (state is RequestState.DECODING) == (moment == "while it is decoded")

    play(scene, artifact)


def test_a_client_that_leaves_just_when_its_image_is_decoded_is_not_queued(artifact: Artifact) -> None:
    async def scene(process: PlayedProcess) -> None:
        sent = lone(process, picture(1, tiny=False)).send()
        decoding = sent.request._on_threads
        assert isinstance(decoding, Decoding)
        assert not wait(decoding._calls, DEADLINE_S).not_done  # its callback is due in the next turn
        sent.request.abandon()
        await turn()
        assert process.is_whole()
        assert sent.responses == []

    play(scene, artifact)


def test_images_of_a_client_that_has_left_are_not_decoded(artifact: Artifact) -> None:
    begun: list[bytes] = []
    may_go_on = threading.Event()

    class Waiting:
        """A preprocessor that waits in every image until it may go on."""

        def memory_bytes(self, image: bytes) -> int:
            return len(image)

        def __call__(self, image: bytes) -> NDArray[np.uint8]:
            begun.append(image)
            assert may_go_on.wait(DEADLINE_S)
            return pixels()

    async def scene(process: PlayedProcess) -> None:
        process.up()
        process.services.models.by_index[0].preprocessor = Waiting()  # type: ignore[assignment]
        first, leaver, last = (lone(process, picture(i, tiny=False)).send() for i in range(3))  # there is one thread
        leaver.request.abandon()
        await turn()
        may_go_on.set()
        while not (first.responses and last.responses):
            if message := process.take():
                process.reply(message)
            await asyncio.sleep(0)
        assert [one.responses[0].status for one in (first, last)] == [200, 200]
        assert begun == [first.body, last.body]

    play(scene, artifact)


def requests_in_memory() -> int:
    return sum(type(one) is PredictionRequest for one in gc.get_objects())  # isinstance asks some objects for more


def test_an_ended_request_is_gone_at_once_without_the_garbage_collector(artifact: Artifact) -> None:
    """Nothing of it refers to itself, and no timer and no queue to it."""

    async def scene(process: PlayedProcess) -> None:
        process.up()
        gc.collect()
        gc.disable()
        try:
            before = requests_in_memory()
            for body in (picture(1), picture(1, tiny=False), b"text", picture(1)[:-30], b""):
                sent = lone(process, body).send()
                while not sent.responses:
                    if message := process.take():
                        process.reply(message)
                    await asyncio.sleep(0)
            sent = lone(process, picture(1)).send()
            sent.request.abandon()
            del sent
            await turn()
            assert requests_in_memory() == before
        finally:
            gc.enable()

    play(scene, artifact)


# Our own faults


def spoil_labels(process: PlayedProcess) -> None:
    """A model that knows fewer classes than its network has: to render a result raises IndexError."""
    process.services.models.by_index[0].labels = LABELS[:1]


def spoil_preprocessor(process: PlayedProcess) -> None:
    """A preprocessor that fails in a way that no image should cause."""

    def fail(_: bytes) -> None:
        raise ZeroDivisionError

    process.services.models.by_index[0].preprocessor = fail  # type: ignore[assignment]


def spoil_slots(process: PlayedProcess) -> None:
    """Slots that are too small for the model's pixels: to submit an image raises ValueError."""
    process.channels.slot_pool.input_bytes -= 1


def test_a_fault_behind_the_response_is_logged(artifact: Artifact) -> None:
    def fail(*_: object) -> None:
        raise ZeroDivisionError

    async def scene(process: PlayedProcess) -> None:
        process.services.request_metrics.count = fail  # type: ignore[method-assign]
        process.up()
        sent = lone(process, picture(3)).send()
        while not (message := process.take()):
            await asyncio.sleep(0)
        process.reply(message)
        while not sent.responses:
            await asyncio.sleep(0)
        assert sent.responses[0].status == 200

    with capture_logs() as logged:
        play(scene, artifact)
    (fault,) = [line for line in logged if line["event"] == "fault behind the response"]
    assert isinstance(fault["exc_info"], ZeroDivisionError)
    assert fault["request_id"]


@pytest.mark.parametrize("tiny", [True, False], ids=["decoded at once", "decoded on a thread"])
@pytest.mark.parametrize("spoil", [spoil_labels, spoil_preprocessor, spoil_slots])
def test_a_fault_of_our_own_is_500_once_and_holds_nothing(artifact: Artifact, spoil: Any, *, tiny: bool) -> None:
    async def scene(process: PlayedProcess) -> None:
        spoil(process)
        process.up()
        sent = lone(process, picture(3, tiny=tiny)).send()
        while not sent.responses:
            if message := process.take():
                process.reply(message)
            await asyncio.sleep(0)
        assert code(sent) == (500, "internal_error")
        assert sent.document["detail"] == (
            "The server failed to answer this request; the reason is in its log under this request id."
        )
        check_ended(process, sent)
        assert process.counted("requests_total") == {("plain", "server_error", "2"): 1}

    play(scene, artifact)


@pytest.mark.parametrize("tiny", [True, False], ids=["decoded at once", "decoded on a thread"])
def test_a_decoder_that_fails_for_one_of_several_images_fails_no_other(artifact: Artifact, *, tiny: bool) -> None:
    async def scene(process: PlayedProcess) -> None:
        model = process.services.models.by_index[0]
        good, bad, decode = picture(1, tiny=tiny), picture(2, tiny=tiny), model.preprocessor

        def fail_for_one(image: bytes) -> Pixels:
            if image == bad:
                raise ZeroDivisionError
            return decode(image)

        fail_for_one.memory_bytes = decode.memory_bytes  # type: ignore[attr-defined]
        model.preprocessor = fail_for_one  # type: ignore[assignment]
        process.up()
        sent = many(process, good, bad).send()
        while not sent.responses:
            if message := process.take():
                process.reply(message)
            await asyncio.sleep(0)
        assert sent.responses[0].status == 200
        first, second = json.loads(sent.responses[0].body)["results"]
        assert first["predictions"]
        assert second["code"] == "internal_error"
        check_ended(process, sent)

    play(scene, artifact)


def test_responses_of_one_batch_are_written_when_all_are_made_and_one_that_cannot_be_takes_no_other_with_it(
    artifact: Artifact,
) -> None:
    async def scene(process: PlayedProcess) -> None:
        process.up()
        sents = [lone(process, picture(number)) for number in range(3)]
        states: list[list[RequestState]] = []

        def write(sent: Sent, response: Response) -> None:
            states.append([each.request.state for each in sents])
            assert sent is not sents[0], "the first cannot be written"
            sent.responses.append(response)

        for sent in sents:
            sent.request._respond = partial(write, sent)
            sent.send()
        process.reply(await process.taken())
        for sent in sents[1:]:
            assert (await sent.response()).status == 200
        assert states == [[RequestState.ENDED] * 3] * 3
        assert process.count("inflight_requests") == 0
        assert process.is_whole()

    with capture_logs() as logged:
        play(scene, artifact)
    assert [line["event"] for line in logged if line["log_level"] == "error"] == ["fault behind the response"]
