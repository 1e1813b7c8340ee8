"""Copies of images that were answered, for another version of their model: what it finds is compared, counted, dropped.

No answer waits for a copy: it takes over the slot of its image, pixels and all, once that has its outcome, and goes to
a worker only while no image waits and the worker has nothing else to do; several together, since each batch costs the
process as much as some images. While the event loop is busy none are made. What finds no time is dropped, and counted.
But LEAST_COPIES of the images are due, however much there is to do, so that a full server compares its versions, too.
If a worker dies with copies, there are none for a while: it is replaced before another can die.
"""

import random
import time
from collections.abc import Sequence
from functools import partial

from service.batching.admission import Admission
from service.batching.image_task import CopyTask, ImageTask, Outcome, Result, do_nothing
from service.batching.loop_time import LoopTime
from service.batching.wait_estimate import LatencyModel
from service.catalog.served_model import ServedModel
from service.errors import DeadlineExceeded, Unavailable
from service.metrics.metrics import Metrics
from service.policy import (
    BUSY_LOOK_S,
    BUSY_LOOP,
    COPIES_PLACES,
    COPIES_WAIT_NS,
    LEAD_NS,
    LEAST_COPIES,
    LONG_LIFE_S,
    WAIT_SHARE,
)

_NAMES: dict[type, str] = {DeadlineExceeded: "dropped", Unavailable: "lost"}
"""What errors are counted as, beside failures."""
_NEVER_NS = 1 << 63


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
        self._share = share
        self._chosen, self._place = 0, -1  # copies, and the last one's number among the images of the live version
        self._next = self._draw()  # images of the live version until one is copied
        self._due, self._most_due = 0.0, max(1.0, LEAST_COPIES * admission.capacity)
        self._loop_time, self._looks_s, self._is_busy = LoopTime(), 0.0, False
        self._latency, self._admission, self._metrics = latency, admission, metrics
        self._waiting: list[CopyTask] = []
        self._until_ns = _NEVER_NS  # when the first of those that wait can wait no longer
        self._sent = 0  # copies that a worker has
        self._resumes_s = 0.0  # on the monotonic clock: when copies are made again
        self.wake = do_nothing

    def sample(self, tasks: Sequence[ImageTask], outcomes: Sequence[Outcome]) -> list[int]:
        """Keep the slots of some of the images of one batch; those of all others."""
        slots, before_ns = [task.slot for task in tasks], self._until_ns
        if tasks[0].model == self._live.index:
            self._due = min(self._due + LEAST_COPIES * len(tasks), self._most_due)
            for copied in self._copy([(tasks[i], outcomes[i]) for i in self._choose(len(tasks))]):
                slots.remove(copied)
        if self._waiting and (self._until_ns < before_ns or self.wait_until_ns <= time.monotonic_ns()):
            self._wake()  # else a timer runs
        return slots

    def _choose(self, images: int) -> list[int]:
        """The places, among so many images, of those that are to be copied."""
        chosen = []
        while self._next < images:
            chosen.append(self._next)
            self._next += 1 + self._draw()
        self._next -= images
        return chosen

    def _draw(self) -> int:
        """How many images to pass over until the next is copied: of each 1 / share in a row one, at random."""
        before = self._place
        place = int((self._chosen + random.random()) / self._share)  # noqa: S311 # nosec B311
        self._chosen, self._place = self._chosen + 1, max(before + 1, place)
        return self._place - before - 1

    def _copy(self, chosen: Sequence[tuple[ImageTask, Outcome]]) -> list[int]:
        """Make copies of those that were answered, as many as there is room and time for; their slots."""
        answered = [(task, outcome) for task, outcome in chosen if isinstance(outcome, Result)]
        if not answered:
            return []
        copied = answered[: self._free_places]
        for task, answer in copied:
            copy = self._copy_of(task, answer)
            self._waiting.append(copy)
            self._until_ns = min(self._until_ns, _waits_until_ns(copy))
        if dropped := len(answered) - len(copied):
            self._count("dropped", dropped)
        return [task.slot for task, _ in copied]

    def _copy_of(self, task: ImageTask, answer: Result) -> CopyTask:
        self._admission.pass_on(task.slot, self.number)
        copy = CopyTask(task, self.number, answer)
        copy.on_done = partial(self._on_outcome, copy)
        return copy

    @property
    def _free_places(self) -> int:
        """How many more copies may wait."""
        most = self._room if self._has_time() else self.due
        if most <= len(self._waiting) or self._pauses:
            return 0
        return max(0, min(most, self._room) - len(self._waiting))

    def _has_time(self) -> bool:
        """Whether this process leaves any, in places and on its event loop."""
        now_s = time.monotonic()
        if now_s >= self._looks_s:
            self._looks_s = now_s + BUSY_LOOK_S
            self._is_busy = self._loop_time() > BUSY_LOOP
        return self._admission.half_is_free and not self._is_busy

    @property
    def due(self) -> int:
        """Copies that are made, and sent, however much there is to do."""
        return int(self._due)

    @property
    def _room(self) -> int:
        """Copies that may wait: what takes a worker no longer than two turns of the event loop, and few places."""
        quick = 2 * LEAD_NS / max(1.0, self._latency.image_ns)
        return max(1, int(min(quick, COPIES_PLACES * self._admission.capacity)))

    @property
    def _most(self) -> int:
        """Copies in a batch: what takes no longer than a turn, or one."""
        return max(1, min(self._latency.sizes.limit, self._room // 2))

    @property
    def next_copies(self) -> list[ImageTask]:
        """What may be sent next: nothing while a worker has some."""
        return [] if not self._waiting or self._sent or self._pauses else [*self._waiting[: self._most]]

    @property
    def wait_until_ns(self) -> int:
        """Until when copies wait for others to run with; 0 if they do not."""
        return self._until_ns if 0 < len(self._waiting) < self._most else 0

    @property
    def _pauses(self) -> bool:
        return time.monotonic() < self._resumes_s

    def forget(self, copies: Sequence[ImageTask]) -> None:
        """The first that wait have been sent."""
        del self._waiting[: len(copies)]
        self._until_ns = min(map(_waits_until_ns, self._waiting), default=_NEVER_NS)
        self._sent += len(copies)
        self._due = max(0.0, self._due - len(copies))

    def close(self) -> list[int]:
        """Make no copies any more; the slots of those that wait."""
        slots = [copy.slot for copy in self._waiting]
        for copy in self._waiting:
            copy.on_done = do_nothing
            self._count("dropped")
        self._waiting.clear()
        return slots

    def _wake(self) -> None:
        if self._waiting and not self._sent:
            self.wake()

    def _on_outcome(self, copy: CopyTask) -> None:
        """A copy was run, or not; it does not refer to itself any more."""
        copy.on_done, outcome = do_nothing, copy.outcome
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

    def _count(self, outcome: str, images: int = 1) -> None:
        self._metrics.shadow_images.inc(self._shadow.name, self._shadow.version, outcome, by=images)


def _waits_until_ns(copy: CopyTask) -> int:
    """Until when a copy waits for others: behind the deadline of its request no worker runs it."""
    return copy.queued_ns + min(COPIES_WAIT_NS, int((copy.deadline_ns - copy.queued_ns) * WAIT_SHARE))
