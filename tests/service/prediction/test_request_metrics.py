"""What is counted of a prediction request: once in each series, by how it ended."""

import asyncio
import time
from typing import Any

import pytest

from models.artifact.artifact import Artifact
from service.metrics.metered_model import MeteredModel
from tests.artifacts import LABELS
from tests.service.prediction.played import (
    SLOTS,
    PlayedProcess,
    Sent,
    lone,
    many,
    picture,
    play,
)

PLAIN = "plain", "2"
STAGES = ("read", "decode", "queue", "inference", "respond")


async def succeed(process: PlayedProcess) -> Sent:
    process.up()
    sent = many(process, picture(3), picture(3), b"text").send()
    process.reply(await process.taken())
    await sent.response()
    return sent


async def send_no_image(process: PlayedProcess) -> Sent:
    sent = lone(process, b"text").send()
    await sent.response()
    return sent


async def find_no_slot(process: PlayedProcess) -> Sent:
    process.services.admission.acquire(SLOTS, 0, left_s=1.0)
    return lone(process, picture(1)).send()


async def expire(process: PlayedProcess) -> Sent:
    sent = lone(process, picture(1), x_request_timeout_ms="1").send()
    await sent.response()
    return sent


async def leave(process: PlayedProcess) -> Sent:
    sent = lone(process, picture(1)).send()
    sent.request.abandon()
    return sent


@pytest.mark.parametrize(
    ("act", "model", "outcome", "status"),
    [
        (succeed, PLAIN, "ok", "200"),
        (send_no_image, PLAIN, "client_error", "415"),
        (find_no_slot, PLAIN, "shed", "503"),
        (expire, PLAIN, "expired", "504"),
        (leave, PLAIN, "cancelled", None),
    ],
)
def test_a_request_is_counted_once_by_how_it_ended(
    artifact: Artifact, act: Any, model: tuple[str, str], outcome: str, status: str | None
) -> None:
    async def scene(process: PlayedProcess) -> None:
        await act(process)
        assert process.counted("requests_total") == {(model[0], outcome, model[1]): 1}
        http = {} if status is None else {(status, "POST", "/predict"): 1}
        assert process.counted("http_requests_total") == http
        assert process.counted("request_duration_seconds_count") == {(model[0], outcome): 1}
        assert process.counted("requests_shed_total") == ({("full",): 1} if outcome == "shed" else {})
        assert process.count("inflight_requests") == 0

    play(scene, artifact)


def test_a_good_request_is_counted_with_its_images_classes_batch_and_stages(artifact: Artifact) -> None:
    async def scene(process: PlayedProcess) -> None:
        sent = await succeed(process)
        assert process.counted("predictions_total") == {(LABELS[3], "plain"): 2}
        assert process.count("prediction_confidence_sum", model="plain") == 1.0  # a half each
        assert process.count("prediction_confidence_count", model="plain") == 2
        assert process.count("image_bytes_count") == 3
        assert process.count("image_bytes_sum") == 2 * len(picture(3)) + len(b"text")
        assert process.counted("images_rejected_total") == {("unsupported_media_type",): 1}
        assert process.count("batch_size_sum", model="plain") == 2
        stages = process.counted("stage_duration_seconds_count")
        assert stages == {("plain", stage): 1 for stage in STAGES}
        total = process.count("request_duration_seconds_sum", model="plain", outcome="ok")
        parts = sum(process.count("stage_duration_seconds_sum", model="plain", stage=stage) for stage in STAGES)
        assert parts == pytest.approx(total)
        assert total == pytest.approx(sent.responses[0].timestamps.total_ns / 1e9)

    play(scene, artifact)


def test_a_request_that_other_content_of_its_version_overtakes_is_counted(artifact: Artifact) -> None:
    async def scene(process: PlayedProcess) -> None:
        process.services.request_metrics.begin_models({0: MeteredModel(*PLAIN, LABELS[:1])})
        await succeed(process)
        assert process.counted("predictions_total") == {(LABELS[3], "plain"): 2}

    play(scene, artifact)


@pytest.mark.parametrize("images", [1, 4], ids=["one batch", "several batches"])
def test_each_stage_is_stamped_at_its_end(artifact: Artifact, images: int) -> None:
    """The last two by the worker: when it took the first batch up, and was done with the last."""

    async def scene(process: PlayedProcess) -> None:
        process.up()
        sent = many(process, *[picture(1)] * images).begin().feed()
        before_ns = time.monotonic_ns()
        sent.request.complete()
        after_ns = time.monotonic_ns()
        told = []
        while not sent.responses:
            if message := process.take():
                told.append(process.reply(message))
            await asyncio.sleep(0)
        assert len(told) == max(1, images // 2)
        stamps = sent.responses[0].timestamps
        assert stamps.headers_ns == sent.headers_ns
        assert before_ns <= stamps.body_ns <= stamps.pixels_ns <= after_ns
        assert (stamps.taken_ns, stamps.done_ns) == (told[0].taken_ns, told[-1].done_ns)
        assert stamps.done_ns <= stamps.written_ns <= time.monotonic_ns()

    play(scene, artifact, batch_size=2)
