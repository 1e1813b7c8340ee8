"""One image of a request, from its slot to its outcome."""

from collections.abc import Callable
from dataclasses import dataclass, field
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


@dataclass(eq=False, slots=True)
class CopyTask(ImageTask):
    """An image that was answered, in its slot, which the copy has taken over; a worker that dies with it is its last.

    Attributes:
        answer: what was found.

    """

    answer: Result = field(kw_only=True)
