"""One image on its way, and what a worker finds in it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from service.errors import ServiceError


class Result(NamedTuple):
    """What the worker found in one image."""

    indices: list[int]  # the most probable classes, in falling order
    probabilities: list[float]
    batch_size: int
    taken_ns: int
    done_ns: int


Outcome = Result | ServiceError


@dataclass(eq=False, slots=True)
class Item:
    """One image on its way; it owns its slot until its result is read or its worker is dead."""

    slot: int
    model: int
    top_k: int
    deadline_ns: int
    on_done: Callable[[], None]
    """Called once, when `outcome` is there, unless the item is not wanted any more."""
    outcome: Outcome | None = None
    queued_ns: int = 0
    wanted: bool = True
    retried: bool = False  # it was in a batch whose worker died: from now on it runs alone

    def finish(self, outcome: Outcome) -> None:
        """Hand the outcome to whoever still waits for it."""
        if self.wanted:
            self.wanted = False
            self.outcome = outcome
            self.on_done()
