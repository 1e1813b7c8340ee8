"""Requests for a model that no worker has: what the supervisor is asked, how many wait, and what ends the wait."""

from collections.abc import Awaitable, Callable
from dataclasses import replace

import pytest

from models.artifact.artifact import Artifact
from service.catalog.catalog import Catalog
from service.ipc.control import (
    AskForModel,
    ControlMessage,
    ModelMoved,
    ModelRefused,
    ModelReleased,
    NewModels,
    ReleaseModel,
    WorkerUp,
)
from service.ipc.reports import ModelReport
from service.parsing.head import Target
from tests.service.event_loop import turn
from tests.service.prediction.played import REPORT, PlayedProcess, Sent, code, head, picture, play
from tests.service.prediction.test_model_switch import SEAT, SET, answer_at_new_worker, told

OTHER = 1  # number of a model that is not loaded, beside the default one
NEW_DEFAULT, NEW_OTHER = 2, 3  # once others are served
Told = Callable[[], list[ControlMessage]]
Scene = Callable[[PlayedProcess, Told], Awaitable[None]]


@pytest.fixture
def run(artifact: Artifact) -> Callable[[Scene], None]:
    """Play a scene in which the worker has the default model alone."""

    def run(scene: Scene) -> None:
        async def whole(process: PlayedProcess) -> None:
            process.up()
            process.api._on_message(ModelMoved(0, ModelReport(OTHER, "unloaded")))
            await scene(process, told(process))
            await turn()
            process.api._wait_estimate.demand = 1  # else places are kept for the other model
            assert process.is_whole()

        play(whole, artifact, replace(artifact, name="other"), memory_budget=1)

    return run


def ask(process: PlayedProcess, *, model: str | None = "other", tiny: bool = True) -> Sent:
    body = picture(4, tiny=tiny)
    return Sent(process, head(len(body), target=replace(Target("/predict"), model=model)), body).send()


def load(process: PlayedProcess) -> None:
    """The worker has the other model now."""
    process.api._on_message(ModelMoved(0, replace(REPORT, model=OTHER)))


async def answer(process: PlayedProcess, *requests: Sent) -> None:
    process.reply(await process.taken())
    assert [(await request.response()).status for request in requests] == [200] * len(requests)


def test_a_model_is_asked_for_once_and_what_waits_is_answered_when_it_is_there(run: Callable[[Scene], None]) -> None:
    async def scene(process: PlayedProcess, read: Told) -> None:
        requests = [ask(process), ask(process)]
        await turn()
        assert read() == [AskForModel(OTHER)]
        assert process.take() is None
        load(process)
        await answer(process, *requests)

    run(scene)


def test_a_model_that_a_new_worker_came_up_with_is_asked_for_again_once_it_has_made_room(
    run: Callable[[Scene], None],
) -> None:
    async def scene(process: PlayedProcess, read: Told) -> None:
        request = ask(process)
        await turn()
        assert read() == [AskForModel(OTHER)]
        process.die()
        process.epoch += 1
        process.api._on_message(WorkerUp(0, process.epoch, (REPORT, replace(REPORT, model=OTHER))))
        await answer(process, request)
        process.api._on_message(ReleaseModel(0, OTHER))
        assert read() == [ModelReleased(0, released=True)]
        again = ask(process)
        await turn()
        assert read() == [AskForModel(OTHER)]
        load(process)
        await answer(process, again)

    run(scene)


def test_a_quarter_of_the_places_is_for_what_waits_for_a_model_and_the_rest_for_loaded_ones(
    run: Callable[[Scene], None],
) -> None:
    async def scene(process: PlayedProcess, _: Told) -> None:
        waiting = [ask(process), ask(process)]  # of four places
        refused = ask(process)
        assert code(refused) == (503, "unavailable")
        assert refused.document["reason"] == "full"
        assert refused.document["detail"] == "2 images wait already until the model is loaded"
        await answer(process, ask(process, model=None))
        load(process)
        await answer(process, *waiting)

    run(scene)


@pytest.mark.parametrize(("retry_after_s", "tried_again"), [(3600.0, False), (0.0, True)])
def test_a_model_that_could_not_be_loaded_is_asked_for_again_after_a_while(
    run: Callable[[Scene], None], retry_after_s: float, *, tried_again: bool
) -> None:
    async def scene(process: PlayedProcess, read: Told) -> None:
        first = ask(process)
        await turn()
        assert read() == [AskForModel(OTHER)]
        process.api._on_message(ModelRefused(OTHER, "it is broken", retry_after_s))
        assert first.responses[0].status == 503
        assert first.document["detail"] == "it is broken"
        assert first.responses[0].headers["retry-after"] == f"{retry_after_s:.0f}"
        second = ask(process)
        await turn()
        if tried_again:
            assert read() == [AskForModel(OTHER)]
            load(process)
            await answer(process, second)
        else:
            assert read() == []
            assert second.responses[0].status == 503
            assert second.document["detail"] == "it is broken"

    run(scene)


def test_what_is_still_decoded_when_its_model_is_refused_is_refused_too(run: Callable[[Scene], None]) -> None:
    async def scene(process: PlayedProcess, _: Told) -> None:
        request = ask(process, tiny=False)
        process.api._on_message(ModelRefused(OTHER, "it is broken", 30.0))
        assert request.responses == []
        assert (await request.response()).status == 503
        assert request.document["detail"] == "it is broken"

    run(scene)


def new_models(process: PlayedProcess, artifact: Artifact, version: int) -> NewModels:
    """The default model in another version, and the other one in this version, which the new worker does not have."""
    old = artifact, replace(artifact, name="other")
    new = replace(artifact, version=3), replace(old[OTHER], version=version)
    catalog = Catalog(new, {}, 0).beside(Catalog(old, {}, 0))
    process.channels.shared_state.epochs[SEAT] = 1
    return NewModels(SET, catalog.pickle(), (WorkerUp(SEAT, 1, (replace(REPORT, model=NEW_DEFAULT),)),))


@pytest.mark.parametrize("tiny", [True, False])
def test_what_waits_for_a_model_that_is_served_as_before_waits_on_when_others_change(
    run: Callable[[Scene], None], artifact: Artifact, *, tiny: bool
) -> None:
    """One that is not tiny is still being decoded."""

    async def scene(process: PlayedProcess, read: Told) -> None:
        request = ask(process, tiny=tiny)
        assert read() == [AskForModel(OTHER)]
        process.api._on_message(new_models(process, artifact, version=2))
        asked: list[ControlMessage] = []
        while not (asked := [message for message in read() if isinstance(message, AskForModel)]):
            await turn()
        assert asked == [AskForModel(NEW_OTHER)]
        process.api._on_message(ModelMoved(SEAT, replace(REPORT, model=NEW_OTHER)))
        answer_at_new_worker(process, NEW_OTHER)
        assert (await request.response()).version == "2"
        assert request.document["model"] == "other"

    run(scene)


@pytest.mark.parametrize("tiny", [True, False])
def test_what_waits_for_a_model_is_refused_once_another_version_is_served(
    run: Callable[[Scene], None], artifact: Artifact, *, tiny: bool
) -> None:
    """One that is not tiny is still being decoded: no worker will have the model that it was decoded for."""

    async def scene(process: PlayedProcess, _: Told) -> None:
        request = ask(process, tiny=tiny)
        process.api._on_message(new_models(process, artifact, version=3))
        await request.response()
        assert code(request) == (503, "unavailable")
        assert request.document["detail"] == "another version was loaded while the request waited; ask again"

    run(scene)


@pytest.mark.parametrize("refused", [True, False])
def test_a_model_is_asked_for_though_another_one_had_its_number_and_was_asked_for(
    run: Callable[[Scene], None], artifact: Artifact, *, refused: bool
) -> None:
    """Numbers are used again once the models that had them are gone."""

    async def scene(process: PlayedProcess, read: Told) -> None:
        ask(process)
        if refused:
            process.api._on_message(ModelRefused(OTHER, "it is broken", 60.0))
        process.api._on_message(new_models(process, artifact, version=3))
        newest = Catalog((replace(artifact, version=4), replace(artifact, name="other", version=4)), {}, 0)
        process.epoch += 1
        process.api._on_message(NewModels(SET + 1, newest.pickle(), (WorkerUp(0, process.epoch, (REPORT,)),)))
        read()
        request = ask(process)
        await turn()
        assert [message for message in read() if isinstance(message, AskForModel)] == [AskForModel(OTHER)]
        load(process)
        await answer(process, request)

    run(scene)
