"""Requests for models that are not loaded, under `--memory-budget`: in one API process.

They hold their places and wait in their queue, as those do whose worker died; what is asked of the supervisor, once,
is that a worker loads the model. Their deadlines end them, a refusal, or a worker that has the model.
"""

import math
import time
from collections.abc import Collection, Sequence

from service.batching.admission import Admission
from service.batching.batcher import Batcher
from service.batching.wait_estimate import WaitEstimate
from service.catalog.catalog import Catalog, identity
from service.catalog.served_model import ServedModel
from service.errors import Unavailable
from service.ipc.control import AskForModel, ControlWriter, ModelMoved, ModelRefused, ModelReleased, ReleaseModel
from service.policy import UNLOADED_SHARE
from service.prediction.model_status import ModelStatus, without_directories


class ModelDemand:
    """Asks the supervisor for models, and follows what workers load and unload."""

    def __init__(
        self,
        status: ModelStatus,
        admission: Admission,
        batcher: Batcher,
        wait_estimate: WaitEstimate,
        report: ControlWriter,
    ) -> None:
        self._status, self._admission, self._batcher = status, admission, batcher
        self._wait_estimate, self._report = wait_estimate, report
        self._most_waiting = int(admission.capacity * UNLOADED_SHARE)
        self._asked: set[int] = set()
        self._refused: dict[int, tuple[str, float]] = {}  # why, and until when on the monotonic clock
        self._successors: dict[int, int | None] = {}  # of the set of models before, for those that no worker had

    def ask(self, model: ServedModel, images: int) -> None:
        """A request to this model holds places for so many images: have it loaded; Unavailable if that is of no use."""
        number = model.index
        if self._status.state(number) == "ready":
            return
        self._check_refusal(number)
        if (waiting := self._wait_estimate.images(number) - images) > self._most_waiting:
            raise Unavailable("full", f"{waiting} images wait already until the model is loaded")
        self._ask_once(number)

    def _check_refusal(self, number: int) -> None:
        """Unavailable if the model is not loaded, and is not to be for a while."""
        reason, until_s = self._refused.get(number, ("", 0.0))
        if (left_s := until_s - time.monotonic()) > 0 and self._status.state(number) != "ready":
            raise Unavailable("loading", reason, retry_after_s=math.ceil(left_s))

    def _ask_once(self, number: int) -> None:
        if number not in self._asked:
            self._asked.add(number)
            self._report.send(AskForModel(number))

    def take_over(self, model: ServedModel, slots: Sequence[int]) -> int:
        """The model's number now, with these slots; Unavailable if it was replaced or refused meanwhile."""
        number = self._successors.get(model.index, model.index) if model.retired else model.index
        if number is None:
            raise _replaced()
        self._check_refusal(number)
        if number != model.index:
            self._pass_on(slots, number)
        return number

    def follow(self, message: ModelMoved | ModelRefused | ReleaseModel) -> None:
        """Do what the supervisor's message says."""
        match message:
            case ModelMoved():
                self._on_moved(message)
            case ModelRefused():
                self._on_refused(message)
            case ReleaseModel():
                self._on_release(message)

    def _on_moved(self, message: ModelMoved) -> None:
        """A worker has a model now, or not."""
        report, worker = message.report, message.worker
        self._asked.discard(report.model)
        self._status.model_moved(worker, report)
        self._wait_estimate.learn(report)
        self._batcher.set_models(worker, self._status.ready_in(worker))

    def _on_refused(self, message: ModelRefused) -> None:
        """A model is not loaded: those that wait for it are told."""
        reason, retry_after_s = without_directories(message.reason), message.retry_after_s
        self._asked.discard(message.model)
        self._refused[message.model] = reason, time.monotonic() + retry_after_s
        error = Unavailable("loading", reason, retry_after_s=math.ceil(retry_after_s))
        self._batcher.fail_model(message.model, error)

    def _on_release(self, message: ReleaseModel) -> None:
        """Let workers unload a model, unless there is an image of it."""
        released = not self._wait_estimate.images(message.model)
        if released:
            self._asked.discard(message.model)  # no worker will have it again without another question
            self._status.release(message.model)
            for worker in self._status.workers:
                self._batcher.set_models(worker, self._status.ready_in(worker))
        self._report.send(ModelReleased(message.number, released))

    def follow_models(self, before: Catalog, ready: Collection[int], now: Catalog) -> None:
        """Other models are served: no worker will load those before which were not `ready`.

        What waits for one that is served as it was waits on; what waits for another is refused.
        """
        self._asked.clear()
        self._refused.clear()
        numbers = {identity(now[number]): number for number in now.numbers}
        self._successors = {n: numbers.get(identity(before[n])) for n in before.numbers if n not in ready}
        for number, successor in self._successors.items():
            if successor is None:
                self._batcher.fail_model(number, _replaced())
            elif tasks := self._batcher.move_tasks(number, successor):
                self._pass_on([task.slot for task in tasks], successor)

    def _pass_on(self, slots: Sequence[int], number: int) -> None:
        """Have images that hold these slots wait for another model than before."""
        for slot in slots:
            self._admission.pass_on(slot, number)
        if self._status.state(number) != "ready":
            self._ask_once(number)


def _replaced() -> Unavailable:
    return Unavailable("loading", "another version was loaded while the request waited; ask again")
