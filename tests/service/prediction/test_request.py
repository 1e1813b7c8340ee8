"""A prediction request: one response, with what was found, and not after its deadline."""

import json
import time
from dataclasses import replace

import pytest

from models.artifact.artifact import Artifact
from service.errors import DeadlineExceeded, ServiceError, Unavailable
from service.ipc.slots import EXPIRED, FAILED
from service.prediction.request import RequestState
from tests.artifacts import LABELS
from tests.service.event_loop import turn
from tests.service.prediction.played import (
    PlayedProcess,
    Sent,
    check_ended,
    code,
    head,
    lone,
    many,
    picture,
    play,
)

PLAIN = "plain", "2"


# A response


def test_no_more_classes_are_asked_for_than_a_message_has_room_for(
    artifact: Artifact, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The greatest number asks for the logits."""
    monkeypatch.setattr("service.prediction.request.WITH_LOGITS", 3)

    async def scene(process: PlayedProcess) -> None:
        process.up()
        asked = replace(head(len(picture(3))), query=b"top_k=70000")
        sent = Sent(process, asked, picture(3)).send()
        message = await process.taken()
        assert message.top_k == 2
        process.reply(message)
        assert len(json.loads((await sent.response()).body)["predictions"]) == 2

    play(scene, artifact)


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
        check_ended(process, sent)

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
            check_ended(process, one)

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
        check_ended(process, sent)
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
        check_ended(process, sent)

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
        check_ended(process, sent)

    play(scene, artifact)


@pytest.mark.parametrize(
    ("error", "answer", "outcome"),
    [
        (Unavailable("worker_lost", "none is up", retry_after_s=7), (503, "unavailable"), "shed"),
        (DeadlineExceeded("it waited for too long"), (504, "deadline_exceeded"), "expired"),
    ],
    ids=["no worker", "no time"],
)
def test_several_images_of_which_the_server_has_run_none_are_refused_as_one(
    artifact: Artifact, error: ServiceError, answer: tuple[int, str], outcome: str
) -> None:
    async def scene(process: PlayedProcess) -> None:
        sent = many(process, picture(1), b"text", picture(2)).send()
        while process.services.batcher.depth < 2:
            await turn()
        process.services.batcher.fail_waiting(error)
        response = await sent.response()
        assert code(sent) == answer
        assert response.headers.get("retry-after") == error.headers.get("retry-after")
        assert process.counted("requests_total") == {("plain", outcome, "2"): 1}
        check_ended(process, sent)

    play(scene, artifact)


def test_what_the_server_has_run_of_several_images_is_answered_beside_what_it_has_not(artifact: Artifact) -> None:
    async def scene(process: PlayedProcess) -> None:
        process.up()
        sent = many(process, picture(1), picture(2)).send()
        message = await process.taken()
        process.reply(message)
        process.channels.slot_pool.statuses[message.slots[1]] = EXPIRED
        found, late = (await sent.response()) and sent.document["results"]  # type: ignore[misc]
        assert sent.responses[0].status == 200
        assert (found["predictions"][0]["label"], late["code"]) == (LABELS[1], "deadline_exceeded")
        check_ended(process, sent)

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
        check_ended(process, twice)

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
        check_ended(process, sent)

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
