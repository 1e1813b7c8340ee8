"""Which images run together, in which worker and when: pure functions of what waits and of what each worker has.

Models share the workers' time: the one that has had least of it goes first. While several are in demand, no batch takes
longer than the dearest image of any, and no slow one is sent ahead: an image then waits for one such batch of another
model, not for several full ones.
"""

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from service.batching.image_task import ImageTask
from service.batching.wait_estimate import LatencyModel
from service.policy import (
    BATCHES_PER_WORKER,
    DEMAND_NS,
    LATE_NS,
    LEAD_NS,
    QUICK_IMAGE_NS,
    SUSPECT_NS,
    WAIT_SHARE,
    WAKE_NS,
)


@dataclass(eq=False, slots=True)
class ModelQueue:
    """The images of one model that no worker has yet, in order of arrival, and how they may be put together.

    Attributes:
        delay_ns: time that an image may wait for others.
        newest_ns: when its newest image was queued.
        begun_ns, served_ns: where its newest batch begins and ends in the worker time that all models share (start-time
            fair queueing, Goyal, Vin and Cheng, 1996).

    """

    latency: LatencyModel
    delay_ns: int = 0
    newest_ns: int = 0
    begun_ns: float = 0.0
    served_ns: float = 0.0
    tasks: OrderedDict[ImageTask, None] = field(default_factory=OrderedDict)
    _oldest_ns: int = 0  # when the first of them was queued, and by when they are to be sent
    _until_ns: int = 0

    def add(self, task: ImageTask) -> None:
        """Queue an image that has just arrived."""
        self.newest_ns = task.queued_ns
        self.tasks[task] = None
        if self.delay_ns:
            self._until_ns = min(self._until_ns, self._waits_until_ns(task))

    def is_in_demand(self, now_ns: int) -> bool:
        """Whether images of it wait, or came a short while ago."""
        return bool(self.tasks) or self.newest_ns > now_ns - DEMAND_NS

    @property
    def fills_until_ns(self) -> int:
        """Until when a batch waits for more images; 0 if it does not."""
        if not self.delay_ns or len(self.tasks) >= self.latency.sizes.limit:
            return 0
        oldest_ns = next(iter(self.tasks)).queued_ns
        if oldest_ns != self._oldest_ns:  # those before it have left
            self._oldest_ns, self._until_ns = oldest_ns, min(map(self._waits_until_ns, self.tasks))
        return self._until_ns

    def _waits_until_ns(self, task: ImageTask) -> int:
        """Until when an image waits for others: no longer than leaves it the time that they all will run."""
        most_ns = int((task.deadline_ns - task.queued_ns) * WAIT_SHARE - len(self.tasks) * self.latency.image_ns)
        return task.queued_ns + min(self.delay_ns, max(0, most_ns))


@dataclass(eq=False, slots=True)
class WorkerQueue:
    """What a worker has been sent by this API process and has not answered.

    Attributes:
        api: which API process this is.
        loads_ns: how long what each API process, and at last the supervisor, has sent there will take, in the shared
            state.
        epoch: which of its lives the worker is in.
        models: indices of those that it has loaded.
        beside: if this is a worker's express thread, what its first thread has been sent.
        full: its pipe has no room, for other processes' batches or those of its former life.
        batches: by batch id, oldest first.

    """

    worker: int
    api: int
    loads_ns: memoryview | list[int]
    epoch: int = 0
    models: frozenset[int] = frozenset()
    beside: "WorkerQueue | None" = None
    up: bool = False
    full: bool = False
    batches: dict[int, list[ImageTask]] = field(default_factory=dict)
    _batch_loads_ns: dict[int, int] = field(default_factory=dict)

    def begin_life(self, epoch: int, models: frozenset[int]) -> None:
        """Let the worker, which is in this epoch, have batches of these models."""
        self.epoch, self.up, self.models = epoch, True, models

    def add(self, batch: int, tasks: list[ImageTask], load_ns: int) -> None:
        """Note a batch that was sent and will take so long; nothing is to wait behind one that may never end."""
        if tasks[0].retried:
            load_ns += SUSPECT_NS
        self.batches[batch], self._batch_loads_ns[batch] = tasks, load_ns
        self.loads_ns[self.api] += load_ns

    def weigh(self, more_ns: int) -> None:
        """Count the newest batch as longer by so much."""
        self._batch_loads_ns[next(reversed(self.batches))] += more_ns
        self.loads_ns[self.api] += more_ns

    def take_back(self, batch: int) -> list[ImageTask] | None:
        """The images of a batch that was answered; None if it is not known."""
        tasks = self.batches.pop(batch, None)
        if tasks is not None:
            self.loads_ns[self.api] -= self._batch_loads_ns.pop(batch)
        return tasks

    def take_all_back(self) -> dict[int, list[ImageTask]]:
        """All that has been sent and not answered, by batch id: the worker is dead."""
        lost, self.batches, self._batch_loads_ns = self.batches, {}, {}
        self.loads_ns[self.api] = 0
        return lost

    @property
    def load_ns(self) -> int:
        """How long what all API processes have sent will take."""
        return sum(self.loads_ns)

    @property
    def is_in_doubt(self) -> bool:
        """Whether it runs an image, of any API process, which was in a worker that died, or loads a model."""
        return self.load_ns >= SUSPECT_NS

    @property
    def runs_suspect(self) -> bool:
        """Whether it runs an image, of any API process, which was in a worker that died."""
        return sum(self.loads_ns[:-1]) >= SUSPECT_NS

    def takes_more(self, most: int) -> bool:
        """Whether the worker may be sent another batch: up to so many, and more while all are short."""
        return self.up and not self.full and (len(self.batches) < most or self.load_ns < LEAD_NS)

    def is_late(self, now_ns: int) -> bool:
        """Whether its oldest batch should have been done long ago: the worker may have been stopped."""
        oldest = next(iter(self.batches.values()), [])
        return bool(oldest) and now_ns - oldest[0].queued_ns > LATE_NS


class Batch(NamedTuple):
    """Images of one model for one worker, and those among them whose deadline has passed and that end instead.

    Attributes:
        begins_ns: where it begins in the worker time that all models share.
        most: images that may run together, with those that other API processes send.

    """

    worker: WorkerQueue
    model: int
    tasks: list[ImageTask]
    expired: list[ImageTask]
    begins_ns: float
    most: int


def next_batch(queues: Sequence[ModelQueue], workers: Sequence[WorkerQueue], now_ns: int) -> Batch | None:
    """The batch to be sent now, None if there is none; nothing is changed."""
    waiting = [model for model, queue in enumerate(queues) if queue.tasks]
    demand = [queue for queue in queues if queue.is_in_demand(now_ns)]
    contended = len(demand) > 1
    # A model that was idle has no claim on what the others had.
    shared_ns = max([queue.begun_ns for queue in queues], default=0.0)
    for model in sorted(waiting, key=lambda model: (max(queues[model].served_ns, shared_ns), queues[model].served_ns)):
        queue = queues[model]
        if queue.fills_until_ns <= now_ns and (worker := choose_worker(workers, model, queue, now_ns, contended)):
            most = most_images(queue, demand) if contended else queue.latency.sizes.limit
            tasks, expired = first_images(queue, most, workers, now_ns)
            if tasks or expired:
                return Batch(worker, model, tasks, expired, max(queue.served_ns, shared_ns), most)
    return None


def choose_worker(
    workers: Sequence[WorkerQueue], model: int, queue: ModelQueue, now_ns: int, contended: bool
) -> WorkerQueue | None:
    """The worker with the least work, None if all have enough; an idle one is woken only if the others have enough.

    On few cores a small network is served faster by one worker with larger batches than by several: if its images are
    quick, by one that has as much as it takes.
    """
    most, latency = 1 if contended else BATCHES_PER_WORKER, queue.latency
    free = [worker for worker in workers if model in worker.models and worker.takes_more(most)]
    enough_ns = WAKE_NS if latency.warm_ns > QUICK_IMAGE_NS else LEAD_NS
    running = [worker for worker in free if 0 < worker.load_ns < enough_ns and not worker.is_late(now_ns)]
    if running:
        return min(running, key=lambda worker: worker.load_ns)
    least = min(free, key=lambda worker: worker.load_ns, default=None)
    return None if least is None or least.is_in_doubt else least


def copies_worker(workers: Sequence[WorkerQueue], model: int, *, idle: bool) -> WorkerQueue | None:
    """The worker that has the model and least work, of equals the last, as images prefer the first.

    `idle`: only one that has nothing to do, of any API process.
    """
    able = [worker for worker in reversed(workers) if model in worker.models and not worker.full]
    least = min(able, key=lambda worker: worker.load_ns, default=None)
    return None if least is None or least.is_in_doubt or (idle and least.load_ns) else least


def most_images(queue: ModelQueue, demand: Sequence[ModelQueue]) -> int:
    """Images in a batch that takes no longer than the dearest image of the models in demand, or LEAD_NS."""
    longest_ns = max(LEAD_NS, *(one.latency.image_ns for one in demand))
    return min(queue.latency.sizes.limit, max(1, int(longest_ns / max(1.0, queue.latency.image_ns))))


def first_images(
    queue: ModelQueue, most: int, workers: Sequence[WorkerQueue] | None, now_ns: int
) -> tuple[list[ImageTask], list[ImageTask]]:
    """The images at the head of the queue that run together, at most so many; and the expired ones among them.

    A retried one runs alone, and in one of these workers at a time: those behind it do not wait for it.
    """
    tasks: list[ImageTask] = []
    expired: list[ImageTask] = []
    for task in queue.tasks:
        if task.deadline_ns <= now_ns:
            expired.append(task)
            continue
        if tasks and (tasks[0].retried or len(tasks) == most):
            break
        if task.retried and (tasks or workers is None or any(worker.runs_suspect for worker in workers)):
            continue
        tasks.append(task)
    return tasks, expired
