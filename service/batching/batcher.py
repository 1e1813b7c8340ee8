"""The batches of one API process: which images wait, which worker has them, and what becomes of a dead worker's.

What arrives in one turn of the event loop is sent at its end, or as soon as it makes a batch that pays. A worker holds
the batch that runs and one that waits, and a few more if they are short: a free worker does not wait while this process
reads and writes HTTP. What waits for a worker, of all API processes, it runs together. Nothing polls, and no timer runs
unless a batch delay is set. Everything happens on the event loop's thread.
"""

import asyncio
import itertools
import os
import time
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from service.batch_costs import quick_models
from service.batching.batch_policy import Batch, ModelQueue, WorkerQueue, copies_worker, next_batch
from service.batching.express import ExpressBudget, express_batch
from service.batching.image_task import CopyTask, ImageTask, Outcome
from service.batching.outbox import Outbox
from service.batching.results import ResultReader, hand_over
from service.batching.shadow import Shadow
from service.batching.wait_estimate import LatencyModel, WaitEstimate
from service.errors import DeadlineExceeded, ServiceError, Unavailable
from service.ipc.channels import Channels
from service.ipc.messages import BatchMessage
from service.ipc.reports import ModelReport
from service.policy import LEAD_NS, QUICK_SLICE_NS, SETTLE_LOOK_S
from service.process.core_slice import USUAL_SLICE_NS, set_core_slice

_COPIES = -1
"""In place of a model's number: the copies for a shadow."""


class _Filling(NamedTuple):
    """A timer for a batch that waits for more images, and when it ends, on the monotonic clock."""

    until_ns: int
    timer: asyncio.TimerHandle


class Batcher:
    """Sends what is queued to the workers in batches, and gives each image its outcome.

    `release` gets back slots, each exactly once, when no process can write to it any more. `count_batch` hears of each
    batch that ran: model, images, ns.
    """

    def __init__(
        self,
        api: int,
        channels: Channels,
        delays_s: Sequence[float],
        wait_estimate: WaitEstimate,
        outbox: Outbox,
        release: Callable[[Sequence[int]], None],
        count_batch: Callable[[int, int, int], None],
    ) -> None:
        self._api, self._shared_state, self._slot_pool = api, channels.shared_state, channels.slot_pool
        self._writers = [pipe.writer for pipe in channels.requests]
        self._release, self._wait_estimate = release, wait_estimate
        self._queues = [
            ModelQueue(latency, int(delay_s * 1e9))
            for latency, delay_s in zip(wait_estimate.latencies, delays_s, strict=True)
        ]
        self._workers = [WorkerQueue(row, api, loads_ns) for row, loads_ns in enumerate(self._shared_state.loads_ns)]
        for seat in range(self._shared_state.seats):
            first, express = self._rows(seat)
            express.beside = first
        self._up: list[WorkerQueue] = []
        self._express: list[WorkerQueue] = []  # express threads of workers that are up
        self._budgets = [ExpressBudget() for _ in self._queues]
        self._filling: dict[int, _Filling] = {}  # by the number of a model whose batch waits, or _COPIES
        first_batch = time.monotonic_ns()  # above every id of a predecessor, of which workers begin no more from now on
        self._shared_state.first_batches[api] = first_batch
        self._ids = itertools.count(first_batch)
        self._results = ResultReader(
            api,
            channels,
            self._workers,
            wait_estimate,
            outbox,
            release=release,
            count_batch=count_batch,
            on_free=self.dispatch,
        )
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._results.fd, self._results.advance)
        self._dispatch_is_due = False
        self._shadow: Shadow | None = None

    def close(self) -> None:
        """Stop listening to the workers."""
        self._loop.remove_reader(self._results.fd)
        for writer in self._writers:
            self._loop.remove_writer(writer)

    @property
    def depth(self) -> int:
        """How many images wait that no worker has been sent yet."""
        return sum(len(queue.tasks) for queue in self._queues)

    def submit(self, task: ImageTask, pixels: NDArray[np.uint8]) -> None:
        """Queue an image, uint8 [h, w, c]; its slot is the batcher's from now on, also if this fails."""
        try:
            self._slot_pool.put(task.slot, pixels, task.deadline_ns)
        except ValueError:
            self._release((task.slot,))
            raise
        task.queued_ns = time.monotonic_ns()
        queue = self._queues[task.model]
        queue.add(task)
        if len(queue.tasks) % queue.latency.sizes.paying(self._wait_estimate.images(task.model)) == 0:
            self._results.advance()  # within a long turn, too: the workers would have nothing to do
        else:
            self._dispatch_later()

    def withdraw(self, task: ImageTask) -> None:
        """The result is no longer wanted: its slot is free at once, unless it has been sent to a worker."""
        task.wanted = False
        tasks = self._queues[task.model].tasks
        if task in tasks:
            del tasks[task]
            self._release((task.slot,))

    # To the workers

    def _dispatch_later(self) -> None:
        if not self._dispatch_is_due:
            self._dispatch_is_due = True
            self._loop.call_soon(self._end_turn)

    def _end_turn(self) -> None:
        self._dispatch_is_due = False
        self.dispatch()
        if self._shadow is not None:
            self._send_copies(self._shadow)

    def dispatch(self) -> None:
        """Send all batches that the policy has for the workers."""
        now_ns = time.monotonic_ns()
        while batch := (self._express_batch(now_ns) if self._express else next_batch(self._queues, self._up, now_ns)):
            tasks = self._queues[batch.model].tasks
            for task in batch.expired:
                del tasks[task]
                self._end(task, DeadlineExceeded("the deadline passed while the request waited in the queue"))
            if not batch.expired and self._send(batch):  # what an end calls may have changed the queue
                for task in batch.tasks:
                    del tasks[task]
        for model, queue in enumerate(self._queues):
            if queue.delay_ns and queue.tasks:
                self._fill(model, queue.fills_until_ns, now_ns)

    def _express_batch(self, now_ns: int) -> Batch | None:
        """One for an express thread, if there is one."""
        batch = express_batch(self._queues, self._budgets, self._express, now_ns)
        return batch or next_batch(self._queues, self._up, now_ns)

    def _send_copies(self, shadow: Shadow) -> None:
        """Send copies to a worker that has nothing to do, if no image waits; images then prefer another worker.

        The few that are due do not wait for such a worker.
        """
        now_ns, until_ns = time.monotonic_ns(), shadow.wait_until_ns
        if until_ns > now_ns:
            self._fill(_COPIES, until_ns, now_ns)
            return
        copies = shadow.next_copies
        if not copies:
            return
        waits = any(queue.tasks for queue in self._queues)
        worker = None if waits else copies_worker(self._up, shadow.number, idle=True)
        if worker is None:
            copies = copies[: shadow.due]
            worker = copies_worker(self._up, shadow.number, idle=False)
        if copies and worker:
            queue = self._queues[shadow.number]  # which is owed no less for them
            if self._send(Batch(worker, shadow.number, copies, [], queue.begun_ns, queue.latency.sizes.limit)):
                worker.weigh(LEAD_NS)
                shadow.forget(copies)

    def _fill(self, model: int, until_ns: int, now_ns: int) -> None:
        """Dispatch again when an image of the model has waited long enough, if that is still to come."""
        if until_ns <= now_ns:
            return
        if filling := self._filling.get(model):
            if filling.until_ns <= until_ns:
                return
            filling.timer.cancel()
        timer = self._loop.call_later((until_ns - now_ns) / 1e9, self._end_filling, model)
        self._filling[model] = _Filling(until_ns, timer)

    def _end_filling(self, model: int) -> None:
        del self._filling[model]
        self._end_turn()

    def _send(self, batch: Batch) -> bool:
        """Send a batch; False if the worker's pipe has no room, which is then waited for."""
        worker, tasks = batch.worker, batch.tasks
        k = max([task.top_k for task in tasks])
        slots, most = tuple([task.slot for task in tasks]), 0 if tasks[0].retried else batch.most
        message = BatchMessage(self._api, batch.model, worker.epoch, next(self._ids), k, slots, most)
        try:
            os.write(self._writers[worker.worker], message.pack())
        except BlockingIOError:
            worker.full = True
            self._loop.add_writer(self._writers[worker.worker], self._on_room, worker)
            return False
        queue = self._queues[batch.model]
        load_ns = int(len(tasks) * queue.latency.image_ns)
        worker.add(message.batch, tasks, load_ns)
        queue.begun_ns, queue.served_ns = batch.begins_ns, batch.begins_ns + load_ns
        if worker.beside is not None:
            workers = len(self._up) / self._shared_state.api_processes
            self._budgets[batch.model].spend(len(tasks), queue.latency.warm_ns, time.monotonic_ns(), workers)
        return True

    def _on_room(self, worker: WorkerQueue) -> None:
        worker.full = False
        self._loop.remove_writer(self._writers[worker.worker])
        self.dispatch()

    def _end(self, task: ImageTask, outcome: Outcome) -> None:
        """End an image that no worker holds."""
        self._release((task.slot,))
        hand_over(task, outcome)

    # Models and workers that come and go

    def begin_shadow(self, shadow: Shadow | None) -> None:
        """This shadow gets copies from now on, and none before it."""
        if self._shadow is not None:
            self._release(self._shadow.close())
        self._shadow = self._results.shadow = shadow
        if shadow is not None:
            shadow.wake = self._dispatch_later

    def begin_models(self, numbers: range, delays_s: Sequence[float]) -> None:
        """Other models are served now; what waits for those before is still run by workers that have them."""
        self._queues += [ModelQueue(LatencyModel()) for _ in range(numbers.stop - len(self._queues))]
        for queue in self._queues:
            queue.newest_ns = 0
        for number, delay_s in zip(numbers, delays_s, strict=True):
            self._queues[number] = ModelQueue(self._wait_estimate.latencies[number], int(delay_s * 1e9))
        self._budgets = [ExpressBudget() for _ in self._queues]

    def holds_none_but(self, numbers: range) -> bool:
        """Whether no worker has a batch of any other model."""
        batches = itertools.chain.from_iterable(worker.batches.values() for worker in self._workers)
        return all(tasks[0].model in numbers for tasks in batches)

    def worker_up(self, index: int, epoch: int, reports: Iterable[ModelReport]) -> None:
        """The worker is up in this epoch; its reports tell which models it has and which batches pay."""
        ready = [report for report in reports if report.state == "ready"]
        first, express = self._rows(index)
        first.begin_life(epoch, frozenset(report.model for report in ready))
        if self._shared_state.epochs[express.worker] == epoch:
            express.begin_life(epoch, quick_models({report.model: report.image_ms for report in ready}))
        self._list_up()
        self.dispatch()

    def _rows(self, seat: int) -> list[WorkerQueue]:
        """What the first and the express thread of a worker have been sent."""
        return [self._workers[row] for row in self._shared_state.rows_of(seat)]

    def _list_up(self) -> None:
        self._up = [worker for worker in self._workers if worker.up and worker.beside is None]
        before, self._express = self._express, [one for one in self._workers if one.up and one.beside is not None]
        if bool(before) != bool(self._express):  # quick images pass this thread, too
            set_core_slice(QUICK_SLICE_NS if self._express else USUAL_SLICE_NS)

    def worker_down(self, index: int) -> list[ImageTask]:
        """The worker is dead: retry alone, once, what it had begun, which is returned; queue again what it had not."""
        self._results.advance()  # what it had finished it has not begun
        threads = self._rows(index)
        for thread in threads:
            thread.up = False
        self._list_up()
        begun = [task for thread in threads for task in self._recover_all(thread)]
        self.dispatch()
        return begun

    def _recover_all(self, worker: WorkerQueue) -> list[ImageTask]:
        """Take back what a worker had that is dead; what it had begun is returned."""
        begun = int(self._shared_state.taken[worker.worker, self._api])
        lost = worker.take_all_back()
        for batch, tasks in reversed(lost.items()):
            for task in reversed(tasks):
                self._recover(task, was_running=batch <= begun)
        return [task for batch, tasks in lost.items() if batch <= begun for task in tasks]

    def _recover(self, task: ImageTask, *, was_running: bool) -> None:
        """Make it the first of its queue again, unless it is not wanted, or was in two workers that died."""
        if not task.wanted:
            self._release((task.slot,))
        elif isinstance(task, CopyTask) and was_running:
            self._end(task, Unavailable("worker_lost", "the worker died while it ran this copy"))
        elif isinstance(task, CopyTask):
            self._end(task, DeadlineExceeded("a copy is not queued again"))
        elif was_running and task.retried:
            self._end(task, Unavailable("worker_lost", "the worker died twice while it ran this request"))
        else:
            task.retried = task.retried or was_running
            tasks = self._queues[task.model].tasks
            tasks[task] = None
            tasks.move_to_end(task, last=False)

    async def settle(self) -> None:
        """Wait until no worker runs any more what a predecessor of this process, which died, had sent.

        Until then no slot may be used. What a worker takes up after it could see this process's first batch, it leaves
        alone if it is of a predecessor; what it took up before is waited for, unless it dies.
        """
        shared_state, api = self._shared_state, self._api
        while any(
            shared_state.taken[worker.worker, api] != shared_state.done[worker.worker, api]
            for worker in (*self._up, *self._express)
        ):
            await asyncio.sleep(SETTLE_LOOK_S)

    def set_models(self, index: int, models: frozenset[int]) -> None:
        """The worker, which is up, has these models now."""
        self._workers[index].models = models
        self.dispatch()

    def move_tasks(self, model: int, other: int) -> list[ImageTask]:
        """Have the images that wait for a model, which are returned, wait for another one."""
        tasks = list(self._queues[model].tasks)
        for task in tasks:
            task.model = other
            self._queues[other].add(task)
        self._queues[model].tasks.clear()
        self._dispatch_later()  # none of those that are returned ends before
        return tasks

    def fail_model(self, model: int, error: ServiceError) -> None:
        """Give every image that waits for this model this outcome."""
        tasks = self._queues[model].tasks
        while tasks:
            self._end(tasks.popitem(last=False)[0], error)

    def fail_waiting(self, error: ServiceError) -> None:
        """Give every image that waits for a model which no worker has this outcome."""
        for model in range(len(self._queues)):
            if not any(model in worker.models for worker in self._up):
                self.fail_model(model, error)
