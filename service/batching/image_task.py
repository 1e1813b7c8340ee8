"""One image of a request, from its slot to its outcome."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from service.errors import ServiceError


class Result(NamedTuple):
    """What the worker found in one image."""

    indices: list[int]  # the most probable classes, in falling order
    probabilities: list[float]
    batch_size: int
    taken_ns: int
    done_ns: int
    # If they were asked for; behind them zeros, or what a model with more left.
    logits: NDArray[np.float32] | None = None


Outcome = Result | ServiceError


@dataclass(eq=False, slots=True)
class ImageTask:
    """One image that waits for a worker or is in one; it owns its slot until its result is read or its worker is dead.

    Attributes:
        model: index in the catalog.
        on_done: called once, when `outcome` is there, unless the task is not wanted any more.
        request_id: of its request, for the log.
        retried: it was in a batch whose worker died; from then on it runs alone.

    """

    slot: int
    model: int
    top_k: int
    deadline_ns: int
    on_done: Callable[[], None]
    request_id: str = ""
    outcome: Outcome | None = None
    queued_ns: int = 0
    wanted: bool = True
    retried: bool = False


class CopyTask(ImageTask):
    """An image that was answered, in its slot, which the copy has taken over; a worker that dies with it is its last.

    No dataclass: of a dataclass below another mypyc 2.4.1 has the garbage collector visit a callable twice.

    Attributes:
        answer: what was found.

    """

    __slots__ = ("answer",)

    def __init__(self, image: ImageTask, model: int, answer: Result) -> None:
        """`model`: the shadow's index; nothing is called yet when it is done."""
        super().__init__(image.slot, model, 1, image.deadline_ns, do_nothing, image.request_id)
        self.queued_ns, self.answer = answer.done_ns, answer


def do_nothing() -> None:
    """For whom a call is of no interest."""
