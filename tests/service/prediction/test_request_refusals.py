"""What is refused, at its headers, in the middle or when it is complete, has one response and holds nothing."""

import gzip
import json
import time
from typing import Any

import numpy as np
import pytest

from models.artifact.artifact import Artifact
from service.parsing.head import Target
from service.policy import TINY_BYTES
from service.prediction.request import RequestState
from tests.service.event_loop import turn
from tests.service.pictures import encode, pixels
from tests.service.prediction.played import (
    BYTES,
    SLOTS,
    PlayedProcess,
    Sent,
    check_ended,
    code,
    head,
    lone,
    many,
    picture,
    play,
    several,
)

PLAIN = "plain", "2"
INFER = Target("/v2/models/{model}/infer", "plain", is_inference=True)


def late(sent: Sent, seconds: int) -> None:
    """Make it a request whose headers came so long ago."""
    sent.request._response.timestamps.headers_ns -= seconds * 10**9


REFUSED_AT_ITS_HEADERS = {
    "another method": ({"method": "DELETE"}, None, (405, "method_not_allowed")),
    "a part of a picture": ({"method": "PUT", "content_range": "bytes 0-9/99"}, None, (400, "bad_request")),
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


def test_only_what_needs_a_decoder_is_refused_while_they_have_enough_to_do(artifact: Artifact) -> None:
    async def scene(process: PlayedProcess) -> None:
        process.up()
        photograph, tiny, wide = b"\xff\xd8\xff" + bytes(BYTES // 8), picture(3), encode(np.zeros((80, 80), np.uint8))
        assert len(wide) <= TINY_BYTES
        tensor = {"name": "image", "shape": [1, *pixels().shape], "datatype": "UINT8", "data": pixels(3).tolist()}
        inference = json.dumps({"inputs": [tensor]}).encode().ljust(TINY_BYTES + 1)
        other = process.services.admission.acquire(1, 0, left_s=1.0)
        estimate = process.services.decoder.estimate
        costs = [estimate.add(photograph) for _ in range(2000)]
        refused = [
            lone(process, photograph).begin(),  # at its headers
            lone(process, wide).send(),  # at its headers it might have been tiny
            Sent(process, head(None), tiny).begin(),
        ]
        assert [code(sent) for sent in refused] == [(503, "unavailable")] * 3
        taken = [lone(process, tiny), many(process, tiny), lone(process, inference, target=INFER)]
        for sent in taken:
            assert sent.send().responses == []
            process.reply(await process.taken())
            assert (await sent.response()).status == 200
        for cost in costs:
            estimate.remove(cost)
        process.services.admission.release(other)
        for sent in refused + taken:
            check_ended(process, sent)

    play(scene, artifact)


def test_a_body_that_grows_too_large_is_refused_in_the_middle_and_its_rest_is_ignored(artifact: Artifact) -> None:
    async def scene(process: PlayedProcess) -> None:
        sent = Sent(process, head(None), bytes(BYTES)).begin()
        while not sent.responses:
            sent.feed(BYTES // 10)
        assert sent.position == 3 * (BYTES // 10)  # the first parts that are more than a quarter
        assert code(sent) == (413, "too_large")
        check_ended(process, sent)

    play(scene, artifact)


def test_a_body_that_does_not_arrive_in_time_is_refused(artifact: Artifact) -> None:
    async def scene(process: PlayedProcess) -> None:
        sent = lone(process, picture(1)).begin().feed(3)
        sent.request.expire_body()
        assert code(sent) == (408, "request_timeout")
        check_ended(process, sent)

    play(scene, artifact)


REFUSED_WHEN_COMPLETE = {
    "an unknown model": ({"target": Target("/predictions/{model}", "zebra")}, picture(1), None, (404, "not_found")),
    "malformed JSON": ({"content_type": "application/json"}, b"{", None, (400, "bad_request")),
    "no image in JSON": (
        {"content_type": "application/json"},
        b'{"image": "%%%"}',
        None,
        (400, "bad_request"),
    ),
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
        lambda _, sent: setattr(sent.request, "deadline_ns", time.monotonic_ns()),
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
            check_ended(process, sent)
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
        check_ended(process, sent)

    play(scene, artifact)


def test_a_compressed_body_for_which_there_is_no_room_is_refused(artifact: Artifact) -> None:
    async def scene(process: PlayedProcess) -> None:
        held = BYTES - process.settings.max_body_bytes
        process.services.admission.reserve_bytes(held)
        sent = compressed(process, picture(1)).send()
        assert (code(sent), sent.document["reason"]) == ((503, "unavailable"), "full")
        process.services.admission.return_bytes(held)
        check_ended(process, sent)

    play(scene, artifact)


@pytest.mark.parametrize("ended", ["abandon", "expire_body"])
def test_a_request_that_ends_while_its_body_is_undone_holds_nothing(artifact: Artifact, ended: str) -> None:
    async def scene(process: PlayedProcess) -> None:
        sent = compressed(process, picture(1)).send()
        getattr(sent.request, ended)()
        await turn()
        assert process.is_whole()

    play(scene, artifact)
