"""Copies of images that were answered, for another version of their model: what it finds is compared, counted, dropped.

No answer waits for a copy: it takes over the slot of its image, pixels and all, once that has its outcome, and goes to
a worker only while no image waits and the worker has nothing else to do; several together, since each batch costs the
process as much as some images. What finds no time is dropped, and counted.
If a worker dies with copies, there are none for a while: it is replaced before another can die.
"""

import math
import random
import time
from collections.abc import Sequence
from functools import partial

from service.batching.admission import Admission
from service.batching.image_task import CopyTask, ImageTask, Outcome, Result
from service.batching.wait_estimate import LatencyModel
from service.errors import DeadlineExceeded, Unavailable
from service.metrics.metrics import Metrics
from service.policy import COPIES_WAIT_NS, LEAD_NS, LONG_LIFE_S
from service.served_model import ServedModel

_NAMES: dict[type, str] = {DeadlineExceeded: "dropped", Unavailable: "lost"}
"""What errors are counted as, beside failures."""


class Shadow:
    """A version that gets copies of a share of what another of its model, the live one, is asked.

    `wake` is called when copies wait that may be sent.

    Attributes:
        number: the model's, in the catalog.

    """

    def __init__(
        self,
        shadow: ServedModel,
        live: ServedModel,
        share: float,
        latency: LatencyModel,
        admission: Admission,
        metrics: Metrics,
    ) -> None:
        self.number = shadow.index
        self._shadow, self._live = shadow, live
        self._log_passed = math.log1p(-share) if share < 1 else -math.inf
        self._next = self._draw()  # images of the live version until one is copied
        self._latency, self._admission, self._metrics = latency, admission, metrics
        self._waiting: list[CopyTask] = []
        self._sent = 0  # copies that a worker has
        self._resumes_s = 0.0  # on the monotonic clock: when copies are made again
        self.wake = _do_nothing

    def sample(self, tasks: Sequence[ImageTask], outcomes: Sequence[Outcome]) -> list[int]:
        """Keep the slots of some of the images of one batch; those of all others."""
        slots = [task.slot for task in tasks]
        if tasks[0].model == self._live.index:
            while self._next < len(tasks):
                task, outcome = tasks[self._next], outcomes[self._next]
                if isinstance(outcome, Result) and self._keep(task, outcome):
                    slots.remove(task.slot)
                self._next += 1 + self._draw()
            self._next -= len(tasks)
        self._wake()
        return slots

    def _draw(self) -> int:
        """How many images to pass over, if each is copied with the same probability: geometrically distributed."""
        return int(math.log(1 - random.random()) / self._log_passed)  # noqa: S311 # nosec B311

    def _keep(self, task: ImageTask, answer: Result) -> bool:
        """Make a copy of an image, if there is room for one."""
        has_room = len(self._waiting) < self._most and not self._pauses
        if not (has_room and self._admission.pass_on(task.slot, self.number)):
            self._count("dropped")
            return False
        copy = CopyTask(task.slot, self.number, 1, task.deadline_ns, _do_nothing, task.request_id, answer=answer)
        copy.on_done = partial(self._on_outcome, copy)
        copy.queued_ns = answer.done_ns
        self._waiting.append(copy)
        return True

    @property
    def _most(self) -> int:
        """Copies that take a worker no longer than a turn of the event loop, or one."""
        return max(1, min(self._latency.sizes.limit, int(LEAD_NS / max(1.0, self._latency.image_ns))))

    def next_copies(self, now_ns: int) -> list[ImageTask]:
        """What may be sent now: nothing while a worker has some."""
        return [] if self._sent or self._pauses or self.fills_until_ns > now_ns else [*self._waiting[: self._most]]

    @property
    def fills_until_ns(self) -> int:
        """Until when copies wait for others to run with; 0 if they do not."""
        return self._waiting[0].queued_ns + COPIES_WAIT_NS if 0 < len(self._waiting) < self._most else 0

    @property
    def _pauses(self) -> bool:
        return time.monotonic() < self._resumes_s

    def forget(self, copies: Sequence[ImageTask]) -> None:
        """The first that wait have been sent."""
        del self._waiting[: len(copies)]
        self._sent += len(copies)

    def close(self) -> list[int]:
        """Make no copies any more; the slots of those that wait."""
        slots = [copy.slot for copy in self._waiting]
        for copy in self._waiting:
            copy.on_done = _do_nothing
            self._count("dropped")
        self._waiting.clear()
        return slots

    def _wake(self) -> None:
        if self._waiting and not self._sent:
            self.wake()

    def _on_outcome(self, copy: CopyTask) -> None:
        """A copy was run, or not; it does not refer to itself any more."""
        copy.on_done, outcome = _do_nothing, copy.outcome
        self._sent -= 1
        if isinstance(outcome, Result):
            self._compare(copy.answer, outcome)
        else:
            self._count(_NAMES.get(type(outcome), "failed"))
        if isinstance(outcome, Unavailable):
            self._resumes_s = time.monotonic() + LONG_LIFE_S
        self._wake()

    def _compare(self, answer: Result, found: Result) -> None:
        name, version, metrics = self._shadow.name, self._shadow.version, self._metrics
        agree = self._live.labels[answer.indices[0]] == self._shadow.labels[found.indices[0]]
        self._count("agreed" if agree else "differed")
        metrics.shadow_difference.observe(abs(answer.probabilities[0] - found.probabilities[0]), name, version)
        for of, result in (("live", answer), ("shadow", found)):
            seconds = (result.done_ns - result.taken_ns) / result.batch_size / 1e9
            metrics.shadow_inference.observe(seconds, name, version, of)

    def _count(self, outcome: str) -> None:
        self._metrics.shadow_images.inc(self._shadow.name, self._shadow.version, outcome)


def _do_nothing() -> None:
    """What is called of a copy that is over."""
