"""Which models make room, and when a worker is told: real pipes and metrics, API processes that the test plays."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest

from service.catalog.catalog import Catalog
from service.catalog.repository import Repository
from service.catalog.selection import Selection
from service.catalog.shadow_version import add_shadow
from service.ipc.channels import Channels
from service.ipc.control import ControlMessage, ModelMoved, ModelRefused, ReleaseModel
from service.ipc.messages import PROBE, BatchMessage, ModelCommand
from service.ipc.reports import ModelReport
from service.metrics.metered_model import metered_models
from service.metrics.metrics import Metrics
from service.policy import HELD_LOOK_S, LOAD_TRIES, RELEASE_LIMIT_S
from service.pools import model_budget
from service.pools.children import WorkerChild
from service.pools.model_budget import ModelBudget
from service.pools.model_set import ModelSet
from service.routes.routes import ROUTES
from tests.artifacts import LABELS, SHAPE, make_artifact

SIZE = 100  # bytes of each model
DEFAULT, B, C, D = range(4)


@dataclass
class House:
    """A budget for the default model and two others of three, with one worker and one API process."""

    budget: ModelBudget
    worker: WorkerChild
    channels: Channels
    metrics: Metrics
    models: ModelSet
    told: list[ControlMessage] = field(default_factory=list)
    others: list[WorkerChild] = field(default_factory=list)

    def commands(self, seat: int = 0) -> list[tuple[int, bool]]:
        """The models that the worker in this seat is told to load, or not, since the last call."""
        reader, found = self.channels.requests[seat].reader, []
        os.set_blocking(reader, False)
        with suppress(BlockingIOError):
            while True:
                message = BatchMessage.unpack(os.read(reader, 1 << 12))
                command = ModelCommand.of(message)
                if command and command.epoch == self.worker.epoch:
                    found.append((command.model, command.load))
        return found

    def obey(self) -> None:
        """Do all that the workers are told until there is nothing more."""
        workers = [self.worker, *self.others]
        while commands := [(worker, *command) for worker in workers for command in self.commands(worker.index)]:
            for worker, model, load in commands:
                state = "ready" if load else "unloaded"
                self.budget.on_report(worker, ModelReport(model, state, memory_bytes=SIZE))

    def start_other(self, *dies_of: int) -> WorkerChild | None:
        """Another worker starts: it is up then, or has died of the first of these that it loads."""
        other = WorkerChild(1, epoch=1, models=self.models)
        for model in sorted(self.budget.wanted(other)):
            if model in dies_of:
                self.die(other, model)
                return None
            other.reports[model] = ModelReport(model, "ready", memory_bytes=SIZE)
        other.up = True
        self.others.append(other)
        self.budget.on_worker_up(other)
        return other

    def other_that_is_told_to_load_c(self) -> WorkerChild:
        """Another worker that is up with the models before, and has not begun to do as it is told."""
        other = WorkerChild(1, epoch=1, up=True, models=self.models)
        other.reports = {model: ModelReport(model, "ready", memory_bytes=SIZE) for model in (DEFAULT, B)}
        self.others.append(other)
        self.budget.look()
        assert self.commands(1) == [(C, True)]
        self.others.clear()
        return other

    def die(self, worker: WorkerChild, model: int | None = None) -> None:
        """A worker dies, of the model that it is loading if any."""
        self.channels.shared_state.loading[worker.index] = 0 if model is None else model + 1
        self.budget.on_end(worker)
        self.channels.shared_state.begin_life(worker.index, worker.epoch + 1)

    def look_later(self) -> None:
        """As `budget.look`, when it asks once more for what had images in flight."""
        self.budget.asks_again_s -= HELD_LOOK_S
        self.budget.look()

    def use(self, model: int, when_s: float) -> None:
        name = "abcd"[model]
        self.metrics.last_inference.set(when_s, name)

    def take(self, kind: Callable[..., ControlMessage]) -> list[ControlMessage]:
        """What API processes were told of this kind since the last call."""
        found = [message for message in self.told if type(message) is kind]
        self.told.clear()
        return found

    def loaded(self) -> set[int]:
        return {report.model for report in self.budget.shown(self.worker)}


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    for name in "abcd":
        make_artifact(tmp_path, name)
    with loaded_house(Repository(tmp_path).read("a"), DEFAULT) as house:
        yield house


@contextmanager
def loaded_house(catalog: Catalog, *loaded: int, most_bytes: int = 3 * SIZE) -> Iterator[House]:
    """Its worker is up with these models, and has done what it was then told."""
    channels = Channels(1, 1, 8, int(np.prod(SHAPE)), len(LABELS))
    metrics = Metrics(list(metered_models(catalog, 1000).values()), ROUTES, workers=1, api_processes=1)
    metrics.attach(metrics.supervisor_row)
    worker, told = WorkerChild(0, epoch=1, up=True), []

    def tell(message: ControlMessage) -> int:
        told.append(message)
        return 1

    models, others = ModelSet.of(catalog, {}), list[WorkerChild]()
    budget = ModelBudget(most_bytes, models, channels, metrics, 60.0, tell, lambda: [worker, *others])
    worker.reports = {model: ModelReport(model, "ready", memory_bytes=SIZE) for model in loaded}
    house = House(budget, worker, channels, metrics, models, told, others)
    budget.on_worker_up(worker)
    house.obey()
    told.clear()
    yield house
    models.close()
    channels.close()


def released(house: House) -> ReleaseModel:
    (message,) = house.take(ReleaseModel)
    assert isinstance(message, ReleaseModel)
    return message


def test_at_the_start_models_are_loaded_in_their_order_while_they_fit(house: House) -> None:
    assert house.loaded() == {DEFAULT, B, C}


def test_a_shadow_is_loaded_with_the_default_model_and_never_makes_room(tmp_path: Path) -> None:
    for name, version in (("a", 1), ("b", 1), ("c", 1), ("b", 2)):
        make_artifact(tmp_path, name, version)
    selection = Selection(shadow=("b", 2))
    repository = Repository(tmp_path)
    catalog = add_shadow(repository.read("a", selection), repository, selection)
    shadow = catalog.shadow
    assert shadow == 3
    with loaded_house(catalog, DEFAULT, shadow) as house:
        assert house.loaded() == {DEFAULT, B, shadow}
        house.use(B, 2.0)  # the shadow's is never counted: it is the one that was used longest ago
        house.budget.ask(C)
        question = released(house)
        assert question.model == B
        house.budget.on_released(question.number, released=False)
        house.look_later()
        assert released(house).model == B  # there is no other
    with loaded_house(catalog, DEFAULT, shadow, most_bytes=2 * SIZE) as house:
        house.budget.ask(B)
        refusal = house.take(ModelRefused)[0]
        assert isinstance(refusal, ModelRefused)
        assert refusal.reason == (
            "the model needs 100 bytes of memory, and --memory-budget leaves 0 beside the default model and the "
            "shadow: start the server with at least --memory-budget 300"
        )


def test_beside_a_default_model_that_takes_more_than_the_budget_the_others_are_measured_and_refused(
    tmp_path: Path,
) -> None:
    for name in "abc":
        make_artifact(tmp_path, name)
    with loaded_house(Repository(tmp_path).read("a"), DEFAULT, most_bytes=SIZE // 2) as house:
        assert house.loaded() == {DEFAULT}
        house.budget.ask(B)
        (refusal,) = house.take(ModelRefused)
        assert isinstance(refusal, ModelRefused)
        assert refusal.model == B
        assert refusal.reason == (
            "the model needs 100 bytes of memory, and --memory-budget leaves 0 beside the default model: start the "
            "server with at least --memory-budget 200"
        )


def test_a_model_with_images_in_flight_is_kept_and_the_next_makes_room(house: House) -> None:
    house.use(B, 1.0)
    house.use(C, 2.0)
    house.budget.ask(D)
    question = released(house)
    assert question.model == B
    house.budget.on_released(question.number, released=False)
    moved = [message.report for message in house.told if isinstance(message, ModelMoved)]
    assert [(report.model, report.state) for report in moved] == [(B, "ready")]
    question = released(house)
    assert question.model == C
    house.budget.on_released(question.number, released=True)
    house.obey()
    assert house.loaded() == {DEFAULT, B, D}


def test_which_model_was_used_longest_ago_does_not_change_with_the_clock_of_the_day(house: House) -> None:
    house.use(B, 1000.0)
    house.budget.look()
    house.use(C, 1.0)  # the clock was set back
    house.budget.ask(D)
    assert released(house).model == B


def test_while_all_are_in_use_they_are_asked_for_now_and_then(house: House) -> None:
    """And not whenever the supervisor wakes, as it does for each answer: there would be no end of it."""
    house.budget.ask(D)
    for _ in range(2):
        house.budget.on_released(released(house).number, released=False)
    house.budget.look()
    assert house.take(ReleaseModel) == []
    house.look_later()
    house.budget.on_released(released(house).number, released=True)
    house.obey()
    assert D in house.loaded()


def test_an_api_process_that_comes_or_goes_has_the_question_put_again(house: House) -> None:
    house.budget.ask(D)
    old = released(house)
    house.budget.cancel_release()
    assert [message.report.model for message in house.take(ModelMoved)] == [old.model]
    house.budget.look()
    new = released(house)
    house.budget.on_released(old.number, released=True)
    assert house.commands() == []
    house.budget.on_released(new.number, released=True)
    house.obey()
    assert D in house.loaded()


def test_a_worker_that_comes_up_while_a_model_is_to_be_unloaded_is_shown_without_it(house: House) -> None:
    house.use(C, 1.0)
    house.budget.ask(D)
    question = released(house)
    assert question.model == B
    other = house.start_other()
    assert other is not None
    assert {report.model for report in house.budget.shown(other)} == {DEFAULT, C}
    house.budget.on_released(question.number, released=True)
    house.obey()
    assert house.loaded() == {DEFAULT, C, D}
    assert set(other.reports) == set(house.worker.reports) == {DEFAULT, C, D}


def test_an_api_process_that_does_not_answer_is_asked_for_another_model(house: House) -> None:
    house.use(C, 1.0)
    house.budget.ask(D)
    first = released(house)
    house.budget.look()
    assert house.take(ReleaseModel) == []
    assert house.budget._release
    house.budget._release.asked_s -= 2 * RELEASE_LIMIT_S
    house.budget.look()
    assert [message for message in house.told if isinstance(message, ModelMoved)] == [
        ModelMoved(0, house.worker.reports[B])
    ]
    second = released(house)
    assert (first.model, second.model) == (B, C)
    house.budget.on_released(first.number, released=True)
    assert house.commands() == []
    house.budget.on_released(second.number, released=True)
    house.obey()
    assert house.loaded() == {DEFAULT, B, D}


def test_a_worker_whose_pipe_is_full_is_told_later(house: House) -> None:
    writer = house.channels.requests[0].writer
    with suppress(BlockingIOError):
        while True:
            os.write(writer, PROBE)
    house.budget.ask(D)
    house.budget.on_released(released(house).number, released=True)
    assert house.commands() == []
    house.budget.look()
    house.obey()
    assert D in house.loaded()


def test_what_failed_is_refused_at_once_for_a_while(house: House) -> None:
    house.budget.ask(D)
    house.budget.on_released(released(house).number, released=True)
    while commands := house.commands():
        for model, load in commands:
            report = ModelReport(model, "failed", "broken") if load else ModelReport(model, "unloaded")
            house.budget.on_report(house.worker, report)
    (refusal,) = house.take(ModelRefused)
    assert isinstance(refusal, ModelRefused)
    assert (refusal.model, refusal.reason) == (D, "the model failed to load: broken")
    house.budget.ask(D)
    assert [message.model for message in house.take(ModelRefused) if isinstance(message, ModelRefused)] == [D]
    assert house.commands() == []


def test_what_failed_is_tried_again_once_it_is_asked_for_after_that_while(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(model_budget, "LOAD_RETRY_S", 0.0)
    house.budget.ask(D)
    house.budget.on_released(released(house).number, released=True)
    house.commands()  # to unload
    house.budget.on_report(house.worker, ModelReport(B, "unloaded"))
    assert house.commands() == [(D, True)]
    house.budget.on_report(house.worker, ModelReport(D, "failed", "broken"))
    assert len(house.take(ModelRefused)) == 1
    house.budget.look()
    assert house.commands() == []  # nobody asks for it
    house.budget.ask(D)
    house.obey()
    assert D in house.loaded()
    assert house.take(ModelRefused) == []


def test_a_model_that_other_workers_die_of_is_left_to_the_one_that_has_it(house: House) -> None:
    for _ in range(LOAD_TRIES):
        assert house.start_other(C) is None
    other = house.start_other(C)
    assert other
    assert other.reports.keys() == {DEFAULT, B}
    house.budget.look()
    assert house.commands(1) == []
    assert house.loaded() == {DEFAULT, B, C}
    house.told.clear()
    house.use(B, 1.0)
    for model, unloaded in (D, C), (C, B):  # loaded anew, it is tried there, too
        house.budget.ask(model)
        question = released(house)
        assert question.model == unloaded
        house.budget.on_released(question.number, released=True)
        house.obey()
        house.use(model, 2.0)
    assert {model for model, report in other.reports.items() if report.state == "ready"} == {DEFAULT, C, D}


def test_workers_that_die_of_what_they_are_told_to_load_and_then_of_starting_with_it(house: House) -> None:
    house.die(house.other_that_is_told_to_load_c(), C)
    assert house.start_other(C) is None
    other = house.start_other(C)
    assert other
    assert other.reports.keys() == {DEFAULT, B}


def test_a_model_is_not_blamed_for_a_worker_that_died_before_it_began_to_load_it(house: House) -> None:
    for _ in range(LOAD_TRIES):
        house.die(house.other_that_is_told_to_load_c())  # of a batch that lay before the command
        house.die(WorkerChild(1, epoch=1, models=house.models))  # and its successor before it loaded anything
    other = house.start_other()
    assert other
    assert other.reports.keys() == {DEFAULT, B, C}


def test_a_model_that_workers_died_of_is_refused_once_none_has_it(house: House) -> None:
    for _ in range(LOAD_TRIES):
        house.start_other(C)
    assert house.start_other(C)
    house.worker.reports = {}
    house.budget.look()
    refusals = [message for message in house.take(ModelRefused) if isinstance(message, ModelRefused)]
    assert [(refusal.model, refusal.reason) for refusal in refusals] == [
        (C, f"the model failed to load: {LOAD_TRIES} workers that loaded it died")
    ]


def test_a_model_that_failed_in_one_worker_is_tried_there_again_when_it_is_loaded_anew(house: House) -> None:
    other = house.start_other()
    assert other
    other.reports[D] = ModelReport(D, "failed", "no memory")
    house.budget.ask(D)
    house.budget.on_released(released(house).number, released=True)
    house.obey()
    assert other.reports[D].state == "ready"


def test_a_worker_of_the_models_before_loads_again_what_it_had_though_that_makes_room_now(
    house: House, tmp_path: Path
) -> None:
    before = house.models
    catalog = Repository(tmp_path).read("a").beside(before.catalog)
    served = house.worker.models = ModelSet.of(catalog, {})
    house.worker.reports = {n: ModelReport(n, "ready", memory_bytes=SIZE) for n in catalog.numbers[:3]}
    house.budget.begin(served)
    house.budget.ask(catalog.numbers[D])
    house.budget.on_released(released(house).number, released=True)
    house.obey()
    assert house.budget.wanted(WorkerChild(1, epoch=1, models=before)) == {DEFAULT, B, C}
    assert house.budget.wanted(house.worker) == house.loaded() != set(catalog.numbers[:3])
    served.close()
