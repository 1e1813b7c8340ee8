"""A prediction request: one response, whatever happens to it, and everything that it held is given back."""

import asyncio
import gc
import gzip
import threading
import time
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from models.artifact.artifact import Artifact
from service.errors import Unavailable
from service.ipc.messages import BatchMessage
from service.ipc.slots import EXPIRED, FAILED
from service.parsing.head import Target
from service.prediction.request import PredictionRequest, RequestState
from tests.artifacts import LABELS
from tests.service.pictures import pixels
from tests.service.prediction.played import (
    BYTES,
    SLOTS,
    PlayedProcess,
    Sent,
    code,
    head,
    lone,
    many,
    picture,
    play,
    several,
    turn,
)
from tests.service.served import DEADLINE_S

PLAIN = "plain", "2"


def assert_ended_for_good(process: PlayedProcess, sent: Sent) -> None:
    """Nothing that still comes changes anything: there is one response, and nothing is held."""
    assert sent.request.state is RequestState.ENDED
    sent.feed()
    sent.request.complete()
    sent.request.expire_body()
    sent.request.refuse(Unavailable("draining", "the end"))
    sent.request.abandon()
    assert len(sent.responses) == 1
    assert process.is_whole()


# A response


@pytest.mark.parametrize("piece", [None, 7], ids=["in one piece", "in pieces"])
@pytest.mark.parametrize("declared", [True, False], ids=["with its length", "chunked"])
@pytest.mark.parametrize("tiny", [True, False], ids=["decoded at once", "decoded on a thread"])
def test_an_image_is_answered_with_its_class(
    artifact: Artifact, piece: int | None, *, declared: bool, tiny: bool
) -> None:
    async def scene(process: PlayedProcess) -> None:
        process.up()
        body = picture(3, tiny=tiny)
        sent = Sent(process, head(len(body) if declared else None), body).begin()
        while sent.position < len(body):
            assert sent.request.missing_bytes == (len(body) - sent.position if declared else 0)
            sent.feed(piece)
        assert (sent.request.state, sent.responses) == (RequestState.RECEIVING, [])
        sent.request.complete()
        message = await process.taken()
        assert (sent.request.state, sent.responses) == (RequestState.WAITING, [])
        process.reply(message)
        assert (await sent.response()).status == 200
        assert sent.document["predictions"] == [{"label": LABELS[3], "index": 3, "probability": 0.5}]
        assert sent.document["batch_size"] == 1
        assert_ended_for_good(process, sent)

    play(scene, artifact)


def test_several_images_are_answered_in_their_order_also_from_several_batches(artifact: Artifact) -> None:
    async def scene(process: PlayedProcess) -> None:
        process.up()
        sent = [many(process, picture(1), picture(2, tiny=False)), many(process, picture(5), picture(4))]
        for one in sent:
            one.send()
        while not all(one.responses for one in sent):
            process.reply(await process.taken())
            await turn()
        labels = [[found["predictions"][0]["label"] for found in one.document["results"]] for one in sent]  # type: ignore[attr-defined]
        assert labels == [[LABELS[1], LABELS[2]], [LABELS[5], LABELS[4]]]
        for one in sent:
            assert_ended_for_good(process, one)

    play(scene, artifact)


def test_a_bad_image_among_several_is_a_problem_in_its_place(artifact: Artifact) -> None:
    async def scene(process: PlayedProcess) -> None:
        process.up()
        sent = many(process, picture(1), b"text", picture(2)[:-30], picture(3)).send()
        process.reply(await process.taken())
        first, text, truncated, last = (await sent.response()) and sent.document["results"]  # type: ignore[misc]
        assert [found["predictions"][0]["label"] for found in (first, last)] == [LABELS[1], LABELS[3]]
        assert [problem["code"] for problem in (text, truncated)] == ["unsupported_media_type", "undecodable_image"]
        assert sent.responses[0].status == 200
        assert_ended_for_good(process, sent)
        assert process.counted("images_rejected_total") == {
            ("unsupported_media_type",): 1,
            ("undecodable_image",): 1,
        }

    play(scene, artifact)


@pytest.mark.parametrize(
    ("body", "status", "error"),
    [
        (b"text", 415, "unsupported_media_type"),
        (picture(1)[:-30], 422, "undecodable_image"),
        (picture(1, tiny=False)[:300], 422, "undecodable_image"),
    ],
    ids=["no image", "truncated", "truncated and not tiny"],
)
def test_the_error_of_a_lone_image_is_the_response(artifact: Artifact, body: bytes, status: int, error: str) -> None:
    async def scene(process: PlayedProcess) -> None:
        sent = lone(process, body).send()
        await sent.response()
        assert code(sent) == (status, error)
        assert_ended_for_good(process, sent)

    play(scene, artifact)


@pytest.mark.parametrize(
    ("status", "answer"), [(FAILED, (500, "internal_error")), (EXPIRED, (504, "deadline_exceeded"))]
)
def test_what_the_worker_could_not_do_is_an_error(artifact: Artifact, status: int, answer: tuple[int, str]) -> None:
    async def scene(process: PlayedProcess) -> None:
        process.up()
        sent = lone(process, picture(1)).send()
        process.reply(await process.taken(), status)
        await sent.response()
        assert code(sent) == answer
        assert_ended_for_good(process, sent)

    play(scene, artifact)


def test_a_request_survives_one_death_of_its_worker_and_not_two(artifact: Artifact) -> None:
    async def scene(process: PlayedProcess) -> None:
        process.up()
        once, twice = lone(process, picture(1)).send(), lone(process, picture(2)).send()
        await process.taken()
        process.die()
        process.up()
        process.reply(await process.taken())
        await once.response()
        await process.taken()
        process.die()
        assert once.responses[0].status == 200
        assert code(twice) == (503, "unavailable")
        assert twice.document["reason"] == "worker_lost"
        assert_ended_for_good(process, twice)

    play(scene, artifact)


# Refusals


def late(sent: Sent, seconds: int) -> None:
    """Make it a request whose headers came so long ago."""
    sent.request._response.timestamps.headers_ns -= seconds * 10**9


REFUSED_AT_ITS_HEADERS = {
    "another method": ({"method": "DELETE"}, None, (405, "method_not_allowed")),
    "a malformed timeout": ({"x_request_timeout_ms": "soon"}, None, (400, "bad_request")),
    "too large": ({"content_length": BYTES}, None, (413, "too_large")),
    "no byte left": ({}, lambda process, _: process.services.admission.reserve_bytes(BYTES), (503, "unavailable")),
    "no slot left": (
        {},
        lambda process, _: process.services.admission.acquire(SLOTS, 0, left_s=1.0),
        (503, "unavailable"),
    ),
    "loading": ({}, lambda process, _: setattr(process.services.admission, "open", False), (503, "unavailable")),
    "draining": ({}, lambda process, _: setattr(process.services.admission, "draining", True), (503, "unavailable")),
    "late": ({}, lambda _, sent: late(sent, 3600), (504, "deadline_exceeded")),
    "one of many that are late": (
        {"x_request_timeout_ms": "30000"},
        lambda _, sent: late(sent, 20),
        (503, "unavailable"),
    ),
}


@pytest.mark.parametrize(
    ("asks", "prepare", "answer"), REFUSED_AT_ITS_HEADERS.values(), ids=REFUSED_AT_ITS_HEADERS.keys()
)
def test_what_is_refused_at_its_headers_has_one_response_and_its_body_is_ignored(
    artifact: Artifact, asks: dict[str, Any], prepare: Any, answer: tuple[int, str]
) -> None:
    async def scene(process: PlayedProcess) -> None:
        body = picture(1)
        sent = Sent(process, head(**{"content_length": len(body)} | asks), body)
        if prepare:
            prepare(process, sent)
        sent.begin()
        assert code(sent) == answer
        sent.feed(5)
        sent.feed()
        sent.request.complete()
        sent.request.abandon()
        await turn()
        assert (len(sent.responses), sent.request.state) == (1, RequestState.ENDED)
        assert process.count("inflight_requests") == 0
        if prepare is None:
            assert process.is_whole()

    play(scene, artifact)


def test_a_body_that_grows_too_large_is_refused_in_the_middle_and_its_rest_is_ignored(artifact: Artifact) -> None:
    async def scene(process: PlayedProcess) -> None:
        sent = Sent(process, head(None), bytes(BYTES)).begin()
        while not sent.responses:
            sent.feed(BYTES // 10)
        assert sent.position == 3 * (BYTES // 10)  # the first parts that are more than a quarter
        assert code(sent) == (413, "too_large")
        assert_ended_for_good(process, sent)

    play(scene, artifact)


def test_a_body_that_does_not_arrive_in_time_is_refused(artifact: Artifact) -> None:
    async def scene(process: PlayedProcess) -> None:
        sent = lone(process, picture(1)).begin().feed(3)
        sent.request.expire_body()
        assert code(sent) == (408, "request_timeout")
        assert_ended_for_good(process, sent)

    play(scene, artifact)


REFUSED_WHEN_COMPLETE = {
    "an unknown model": ({"target": Target("/predictions/{model}", "zebra")}, picture(1), None, (404, "not_found")),
    "malformed JSON": ({"content_type": "application/json"}, b"{", None, (400, "bad_request")),
    "more images than slots": (
        {"content_type": "application/json"},
        several(*[picture(1)] * (SLOTS + 1))[0],
        None,
        (413, "too_large"),
    ),
    "a model that failed to load": (
        {},
        picture(1),
        lambda process, _: setattr(process.services.models.by_index[0], "failure", "why"),
        (503, "unavailable"),
    ),
    "no slot left": (
        {},
        picture(1),
        lambda process, _: process.services.admission.acquire(SLOTS, 0, left_s=1.0),
        (503, "unavailable"),
    ),
    "late": (
        {},
        picture(1),
        lambda _, sent: setattr(sent.request, "_deadline_ns", time.monotonic_ns()),
        (504, "deadline_exceeded"),
    ),
}


@pytest.mark.parametrize(
    ("asks", "body", "prepare", "answer"), REFUSED_WHEN_COMPLETE.values(), ids=REFUSED_WHEN_COMPLETE.keys()
)
def test_what_is_refused_when_it_is_complete_has_one_response(
    artifact: Artifact, asks: dict[str, Any], body: bytes, prepare: Any, answer: tuple[int, str]
) -> None:
    async def scene(process: PlayedProcess) -> None:
        sent = Sent(process, head(len(body), **asks), body).begin().feed()
        if prepare:
            prepare(process, sent)
        sent.request.complete()
        assert code(sent) == answer
        if "no slot" not in str(sent.document["detail"]) and prepare is None:
            assert_ended_for_good(process, sent)
        assert process.count("inflight_requests") == 0
        process.services.admission.reserve_bytes(BYTES)  # all that there are

    play(scene, artifact)


# Compressed bodies


def compressed(process: PlayedProcess, *images: bytes) -> Sent:
    """A request with images in JSON, gzipped."""
    body, content_type = several(*images)
    body = gzip.compress(body)
    return Sent(process, head(len(body), content_encoding="gzip", **content_type), body)


def test_what_a_compressed_body_may_become_is_counted_until_it_is_known(artifact: Artifact) -> None:
    """However small it is, it is undone on a thread."""

    async def scene(process: PlayedProcess) -> None:
        process.up()
        admission = process.services.admission
        sent = compressed(process, picture(1), picture(2)).send()
        assert sent.request.state is RequestState.PARSING
        assert admission.bytes_left == BYTES - len(sent.body) - process.settings.max_body_bytes
        message = await process.taken()
        assert admission.bytes_left == BYTES - len(picture(1)) - len(picture(2))
        process.reply(message)
        assert (await sent.response()).status == 200
        assert_ended_for_good(process, sent)

    play(scene, artifact)


def test_a_compressed_body_for_which_there_is_no_room_is_refused(artifact: Artifact) -> None:
    async def scene(process: PlayedProcess) -> None:
        held = BYTES - process.settings.max_body_bytes
        process.services.admission.reserve_bytes(held)
        sent = compressed(process, picture(1)).send()
        assert (code(sent), sent.document["reason"]) == ((503, "unavailable"), "full")
        process.services.admission.return_bytes(held)
        assert_ended_for_good(process, sent)

    play(scene, artifact)


@pytest.mark.parametrize("ended", ["abandon", "expire_body"])
def test_a_request_that_ends_while_its_body_is_undone_holds_nothing(artifact: Artifact, ended: str) -> None:
    async def scene(process: PlayedProcess) -> None:
        sent = compressed(process, picture(1)).send()
        getattr(sent.request, ended)()
        await turn()
        assert process.is_whole()

    play(scene, artifact)


# Deadlines


@pytest.mark.parametrize(
    ("asked_ms", "usual_s", "latest_s", "deadline_s"),
    [(None, 10.0, 60.0, 10.0), ("2500", 10.0, 60.0, 2.5), ("90000", 10.0, 60.0, 60.0), (None, 70.0, 60.0, 60.0)],
    ids=["usual", "asked for", "later than the latest", "usual but later than the latest"],
)
def test_the_worker_is_told_the_deadline(
    artifact: Artifact, asked_ms: str | None, usual_s: float, latest_s: float, deadline_s: float
) -> None:
    async def scene(process: PlayedProcess) -> None:
        process.up()
        sent = lone(process, picture(1), **({"x_request_timeout_ms": asked_ms} if asked_ms else {})).send()
        message = await process.taken()
        (slot,) = message.slots
        assert process.channels.slot_pool.deadlines[slot] - sent.headers_ns == deadline_s * 1e9
        process.reply(message)
        await sent.response()

    play(scene, artifact, request_timeout=usual_s, max_request_timeout=latest_s)


@pytest.mark.parametrize("tiny", [True, False], ids=["which waits", "which may still be decoded"])
def test_a_deadline_that_passes_ends_the_request_and_not_before(artifact: Artifact, *, tiny: bool) -> None:
    async def scene(process: PlayedProcess) -> None:
        sent = lone(process, picture(1, tiny=tiny), x_request_timeout_ms="20").send()
        await sent.response()
        assert time.monotonic_ns() >= sent.headers_ns + 20_000_000
        assert code(sent) == (504, "deadline_exceeded")
        assert_ended_for_good(process, sent)

    play(scene, artifact)


def test_a_response_stops_the_clock(artifact: Artifact) -> None:
    """Another request's deadline, which is later, passes without a second response to the first."""

    async def scene(process: PlayedProcess) -> None:
        process.up()
        first = lone(process, picture(1), x_request_timeout_ms="20").send()
        process.reply(await process.taken())
        status = (await first.response()).status
        second = lone(process, picture(1), x_request_timeout_ms="40").send()
        await second.response()
        assert (status, len(first.responses), code(second)[0]) == (200, 1, 504)

    play(scene, artifact, request_timeout=60.0)


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
        assert sent.request._on_threads is not None
        while not sent.request._on_threads.done():  # its callback is due in the next turn
            await asyncio.sleep(0)
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
        assert_ended_for_good(process, sent)
        assert process.counted("requests_total") == {("plain", "server_error", "2"): 1}

    play(scene, artifact)
