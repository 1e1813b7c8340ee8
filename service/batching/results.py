"""What the workers have finished: replies become outcomes of images."""

import os
from collections.abc import Callable, Sequence

import structlog

from service.batching.batch_policy import WorkerQueue
from service.batching.image_task import ImageTask, Outcome, Result
from service.batching.outbox import Outbox
from service.batching.shadow import Shadow
from service.batching.wait_estimate import WaitEstimate
from service.errors import DeadlineExceeded, InternalError, ServiceError
from service.ipc.channels import Channels
from service.ipc.messages import REPLIES_BYTES, WITH_LOGITS, Reply, unpack_replies
from service.ipc.slots import EXPIRED, OK

log = structlog.get_logger()


def hand_over(task: ImageTask, outcome: Outcome) -> None:
    """Give an image its outcome, if it is still wanted; a request that fails at it takes no other with it."""
    if task.wanted:
        task.wanted = False
        task.outcome = outcome
        try:
            task.on_done()
        except Exception:
            log.exception("request failed", model=task.model)


class ResultReader:
    """Reads the replies to one API process.

    `release` gets back slots, `count_batch` hears of each batch that ran (model, images, ns), `on_free` is called when
    workers have become free, before the outcomes are handed over. What requests put in the outbox as they get their
    outcomes leaves when all have theirs.
    """

    def __init__(
        self,
        api: int,
        channels: Channels,
        workers: Sequence[WorkerQueue],
        wait_estimate: WaitEstimate,
        outbox: Outbox,
        *,
        release: Callable[[Sequence[int]], None],
        count_batch: Callable[[int, int, int], None],
        on_free: Callable[[], None],
    ) -> None:
        self.fd = channels.replies[api].reader
        os.set_blocking(self.fd, False)
        self._slot_pool, self._workers, self._wait_estimate = channels.slot_pool, workers, wait_estimate
        self._outbox, self._release, self._count_batch = outbox, release, count_batch
        self._on_free = on_free
        self.shadow: Shadow | None = None

    def advance(self) -> None:
        """Read what the workers have finished, let them have more, then hand the outcomes over."""
        try:
            data = os.read(self.fd, REPLIES_BYTES)
        except BlockingIOError:
            data = b""
        done = []
        for reply in unpack_replies(data):
            worker = self._workers[reply.worker]
            if reply.epoch == worker.epoch and (tasks := worker.take_back(reply.batch)) is not None:
                done.append((tasks, reply))
        try:
            self._on_free()  # first: the workers go on while the responses are written
        finally:
            with self._outbox.gather():
                for tasks, reply in done:
                    self._finish(tasks, reply)

    def _finish(self, tasks: list[ImageTask], reply: Reply) -> None:
        """Give back the slots of one message's images, and hand each its outcome."""
        outcomes = self._read(tasks, reply)
        if self.shadow is None:
            self._release([task.slot for task in tasks])
        else:
            self._release(self.shadow.sample(tasks, outcomes))
        for task, outcome in zip(tasks, outcomes, strict=True):
            hand_over(task, outcome)
        self._learn(tasks[0].model, reply)

    def _read(self, tasks: list[ImageTask], reply: Reply) -> list[Outcome]:
        """The outcomes of one message's images, from their slots; an error of ours is the outcome of them all."""
        pool, slots = self._slot_pool, [task.slot for task in tasks]
        k = max([task.top_k for task in tasks])
        try:
            statuses = pool.statuses[slots].tolist()
            indices = pool.indices[slots, :k].tolist()
            probabilities = pool.probabilities[slots, :k].tolist()
            outcomes = [
                self._outcome(status, classes[: task.top_k], shares[: task.top_k], reply)
                for task, status, classes, shares in zip(tasks, statuses, indices, probabilities, strict=True)
            ]
            return outcomes if k < WITH_LOGITS else list(map(self._add_logits, tasks, outcomes))
        except Exception:
            log.exception("results cannot be read", worker=reply.worker, images=len(tasks))
            return [InternalError("the results cannot be read")] * len(tasks)

    def _outcome(self, status: int, classes: list[int], shares: list[float], reply: Reply) -> Outcome:
        if status == OK:
            return Result(classes, shares, reply.batch_size, reply.taken_ns, reply.done_ns)
        if status == EXPIRED:
            return DeadlineExceeded("the deadline passed while the request waited for its worker")
        return InternalError("the engine failed for this image")

    def _add_logits(self, task: ImageTask, outcome: Outcome) -> Outcome:
        """The first class alone and the logits, where the task asks for them."""
        if task.top_k < WITH_LOGITS or isinstance(outcome, ServiceError):
            return outcome
        logits = self._slot_pool.logits[task.slot].copy()
        return outcome._replace(indices=outcome.indices[:1], probabilities=outcome.probabilities[:1], logits=logits)

    def _learn(self, model: int, reply: Reply) -> None:
        """The batch ran: what it took corrects the estimate, and it is counted, by one API process."""
        if reply.counts:
            took_ns = reply.done_ns - reply.taken_ns
            self._wait_estimate.observe(model, reply.batch_size, took_ns)
            self._count_batch(model, reply.batch_size, took_ns)
