"""Copies of answered images for a shadow: when they are made and sent, what is counted, and that nothing is left."""

import math
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path

import pytest

from models.artifact.artifact import Artifact, read_artifact
from service.batching import shadow as shadow_module
from service.batching.admission import Admission
from service.catalog.catalog import Catalog
from service.ipc.control import NewModels
from service.ipc.messages import BatchMessage
from service.ipc.slots import EXPIRED, FAILED
from tests.service.event_loop import turn
from tests.service.prediction.played import PlayedProcess, Sent, head, picture, play, several

LIVE, SHADOW = 0, 1  # numbers of the models


@pytest.fixture(scope="module")
def live(repository: Path) -> Artifact:
    return read_artifact(repository / "plain" / "2")


@pytest.fixture(scope="module")
def shadow(live: Artifact) -> Artifact:
    """Version 3, whose labels are in another order: the class of pixel 4 has the same name in both."""
    labels = live.labels
    turned = (*labels[1:4], labels[0], *labels[4:])
    return replace(live, version=3, metadata=replace(live.metadata, labels=turned))


def counts(process: PlayedProcess) -> dict[str, float]:
    """How many images were copied, by outcome."""
    return {outcome: value for (_, outcome, _), value in process.counted("shadow_images_total").items()}


Scene = Callable[[PlayedProcess], Awaitable[None]]


@pytest.fixture
def run(live: Artifact, shadow: Artifact, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Play a scene in which copies do not wait for others, there is a place for each, and the event loop has time."""
    monkeypatch.setattr(shadow_module, "COPIES_WAIT_NS", 0)
    monkeypatch.setattr(shadow_module, "BUSY_LOOP", math.inf)
    monkeypatch.setattr(shadow_module, "COPIES_PLACES", 1)

    def run(scene: Scene, **settings: object) -> None:
        async def whole(process: PlayedProcess) -> None:
            process.up()
            await scene(process)
            assert process.is_whole()

        play(whole, live, shadow=shadow, **{"shadow_share": 1.0} | settings)

    return run


def ask(process: PlayedProcess, first: int) -> Sent:
    body = picture(first)
    return Sent(process, head(len(body)), body).send()


async def answer(process: PlayedProcess, first: int) -> BatchMessage:
    """Have an image answered; its copy."""
    sent = ask(process, first)
    process.reply(await process.taken())
    response = await sent.response()
    assert (response.status, response.version) == (200, "2")
    assert process.take() is None  # it was answered before the copy was sent
    copy = await process.taken()
    assert copy.model == SHADOW
    return copy


def test_a_copy_has_the_pixels_and_what_is_found_is_compared_by_name(run: Callable[..., None]) -> None:
    async def scene(process: PlayedProcess) -> None:
        for first in (4, 0):
            copy = await answer(process, first)
            assert process.channels.slot_pool.pixels[copy.slots[0], 0] == first
            process.reply(copy)
            await turn()
        assert counts(process) == {"agreed": 1, "differed": 1}
        assert process.count("shadow_confidence_difference_count", model="plain", version="3") == 2
        assert process.count("shadow_confidence_difference_sum", model="plain", version="3") == 0
        for of in ("live", "shadow"):
            series = {"model": "plain", "version": "3", "of": of}
            assert process.count("shadow_inference_seconds_count", **series) == 2
            assert process.count("shadow_inference_seconds_sum", **series) == pytest.approx(2e-6)

    run(scene)


def test_a_copy_is_sent_only_while_no_image_waits_and_the_worker_has_nothing_else(run: Callable[..., None]) -> None:
    async def scene(process: PlayedProcess) -> None:
        first = ask(process, 4)
        batch = await process.taken()
        second = ask(process, 5)
        await turn()
        process.reply(batch)
        await first.response()
        await turn()
        running = process.take()
        assert running
        assert running.model == LIVE
        assert process.take() is None
        process.reply(running)
        await second.response()
        copies = await process.taken()
        assert (copies.model, len(copies.slots)) == (SHADOW, 2)
        third = ask(process, 6)  # beside copies
        live = await process.taken()
        process.reply(copies)
        process.reply(live)
        assert (await third.response()).version == "2"
        process.reply(await process.taken())
        await turn()
        assert counts(process) == {"agreed": 3}

    run(scene)


@pytest.mark.parametrize("images", [1, 2])  # two make a batch here, one waits for its time
def test_copies_wait_for_others_to_run_with_but_not_for_ever(
    run: Callable[..., None], monkeypatch: pytest.MonkeyPatch, images: int
) -> None:
    async def scene(process: PlayedProcess) -> None:
        monkeypatch.setattr(shadow_module, "COPIES_WAIT_NS", 10**8)
        for first in (4, 5)[:images]:
            sent = ask(process, first)
            process.reply(await process.taken())
            assert (await sent.response()).status == 200
        copies = await process.taken()  # nothing else happens meanwhile
        assert (copies.model, len(copies.slots)) == (SHADOW, images)
        process.reply(copies)
        await turn()
        assert counts(process) == {"agreed": images}

    run(scene)


def test_a_copy_is_sent_while_its_request_would_still_have_had_time(
    run: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shadow_module, "COPIES_WAIT_NS", 10**12)

    async def scene(process: PlayedProcess) -> None:
        body = picture(4)
        for patience_ms in ("30000", "2000"):
            sent = Sent(process, head(len(body), x_request_timeout_ms=patience_ms), body).send()
            process.reply(await process.taken())
            assert (await sent.response()).status == 200
        copies = await process.taken()
        assert len(copies.slots) == 2
        assert process.channels.slot_pool.deadlines[list(copies.slots)].min() > time.monotonic_ns()
        process.reply(copies)
        await turn()

    run(scene)


def test_waiting_copies_hold_no_more_than_their_share_of_the_places(
    run: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scene(process: PlayedProcess) -> None:
        monkeypatch.setattr(shadow_module, "COPIES_PLACES", 0.25)  # one of four
        monkeypatch.setattr(Admission, "half_is_free", True)
        running = await answer(process, 4)
        for first in (5, 6):
            sent = ask(process, first)
            process.reply(await process.taken())
            assert (await sent.response()).status == 200
        assert process.services.admission.places_taken == 2
        assert counts(process) == {"dropped": 1}
        process.reply(running)
        process.reply(await process.taken())
        await turn()
        assert counts(process) == {"agreed": 2, "dropped": 1}

    run(scene)


def test_where_half_of_the_slots_are_taken_copies_are_dropped(run: Callable[..., None]) -> None:
    async def scene(process: PlayedProcess) -> None:
        body, fields = several(*map(picture, (4, 5, 6)))
        sent = Sent(process, head(len(body), **fields), body).send()
        process.reply(await process.taken())
        assert (await sent.response()).status == 200
        await turn()
        assert counts(process) == {"dropped": 3}
        assert process.take() is None

    run(scene)


async def answer_many(process: PlayedProcess, images: int) -> list[int]:
    """Have so many images answered, one after the other, and each copy that is made; the places in four of those."""
    places = []
    for number in range(images):
        sent = ask(process, number % 4)
        process.reply(await process.taken())
        assert (await sent.response()).version == "2"
        await turn()
        if copy := process.take():
            places.append(int(process.channels.slot_pool.pixels[copy.slots[0], 0]))
            process.reply(copy)
            await turn()
    return places


@pytest.mark.parametrize("share", [0.1, 0.4, 0.95, 1.0])
def test_the_share_of_the_images_that_is_copied_is_exact(run: Callable[..., None], share: float) -> None:
    async def scene(process: PlayedProcess) -> None:
        assert len(await answer_many(process, 100)) == pytest.approx(100 * share, abs=1)
        assert counts(process).keys() == {"differed"}

    run(scene, shadow_share=share)


def test_which_image_of_a_row_is_copied_is_left_to_chance(run: Callable[..., None]) -> None:
    """Else the copies of clients that take turns would all be of the same client."""

    async def scene(process: PlayedProcess) -> None:
        assert set(await answer_many(process, 300)) == {0, 1, 2, 3}  # one is missed once in 500 million runs

    run(scene, shadow_share=0.25)


def test_while_the_event_loop_is_busy_only_what_is_due_is_copied(
    run: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scene(process: PlayedProcess) -> None:
        monkeypatch.setattr(shadow_module, "BUSY_LOOP", -1.0)
        monkeypatch.setattr(shadow_module, "LEAST_COPIES", 0.01)
        assert len(await answer_many(process, 250)) == 2
        assert counts(process) == {"differed": 2, "dropped": 248}

    run(scene)


def test_a_copy_that_is_due_waits_for_no_idle_worker(run: Callable[..., None], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shadow_module, "LEAST_COPIES", 0.25)

    async def scene(process: PlayedProcess) -> None:
        before = ask(process, 4)
        running = await process.taken()
        copies = []
        for _ in range(10):  # the worker always has the next image when it replies
            sent = ask(process, 4)
            process.reply(running)
            assert (await before.response()).version == "2"
            before, waiting = sent, [await process.taken()]
            await turn()
            while more := process.take():
                waiting.append(more)
            (running,) = (message for message in waiting if message.model == LIVE)
            for copy in waiting:
                if copy.model == SHADOW:
                    copies.append(len(copy.slots))
                    process.reply(copy)
            await turn()
        assert copies == [1, 1]  # a quarter of ten images
        process.reply(running)
        await before.response()
        await turn()
        process.reply(await process.taken())  # what waits may be sent now
        await turn()

    run(scene)


@pytest.mark.parametrize(("status", "outcome"), [(FAILED, "failed"), (EXPIRED, "dropped")])
def test_what_the_shadow_does_not_answer_is_counted(run: Callable[..., None], status: int, outcome: str) -> None:
    async def scene(process: PlayedProcess) -> None:
        process.reply(await answer(process, 4), status)
        await turn()
        assert counts(process) == {outcome: 1}

    run(scene)


def test_a_copy_that_had_not_begun_in_a_worker_that_died_is_dropped(run: Callable[..., None]) -> None:
    async def scene(process: PlayedProcess) -> None:
        await answer(process, 4)
        process.channels.shared_state.taken[0, 0] = 0  # it was sent, and not begun
        process.die()
        process.up()
        await turn()
        assert process.take() is None
        assert counts(process) == {"dropped": 1}

    run(scene)


@pytest.mark.parametrize(("pause_s", "goes_on"), [(3600.0, False), (0.0, True)])
def test_a_copy_that_its_worker_dies_with_is_not_tried_again_and_for_a_while_there_are_no_others(
    run: Callable[..., None], monkeypatch: pytest.MonkeyPatch, pause_s: float, *, goes_on: bool
) -> None:
    monkeypatch.setattr(shadow_module, "LONG_LIFE_S", pause_s)

    async def scene(process: PlayedProcess) -> None:
        await answer(process, 4)
        process.die()
        process.up()
        await turn()
        assert process.take() is None
        sent = ask(process, 5)
        process.reply(await process.taken())
        assert (await sent.response()).status == 200
        await turn()
        if goes_on:
            process.reply(await process.taken())
            await turn()
        assert process.take() is None
        assert counts(process) == {"lost": 1, "agreed" if goes_on else "dropped": 1}

    run(scene)


def test_requests_that_name_the_version_are_answered_and_not_copied(run: Callable[..., None]) -> None:
    async def scene(process: PlayedProcess) -> None:
        body = picture(4)
        target = replace(head(0).target, model="plain", version="3")
        sent = Sent(process, head(len(body), target=target), body).send()
        process.reply(await process.taken())
        assert (await sent.response()).version == "3"
        await turn()
        assert process.take() is None
        assert counts(process) == {}

    run(scene)


def test_what_waits_is_dropped_once_other_models_are_served(
    run: Callable[..., None], live: Artifact, shadow: Artifact
) -> None:
    async def scene(process: PlayedProcess) -> None:
        copy = await answer(process, 4)
        sent = ask(process, 5)
        process.reply(await process.taken())
        await sent.response()
        before = Catalog((live, shadow), {}, 0, shadow=1)
        now = Catalog((shadow,), {}, 0).beside(before)
        process.api._on_message(NewModels(5, now.pickle(), ()))
        assert counts(process) == {"dropped": 1}
        process.reply(copy)
        await turn()
        assert counts(process) == {"dropped": 1, "agreed": 1}
        assert process.take() is None

    run(scene)
