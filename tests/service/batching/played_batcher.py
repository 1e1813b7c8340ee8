"""A batcher whose workers the test plays, at the other end of real pipes and slots."""

import asyncio
import copy
import os
import time
from collections.abc import Awaitable, Callable, Sequence
from select import PIPE_BUF

import numpy as np

from service.batching.batcher import Batcher
from service.batching.image_task import ImageTask, Result
from service.batching.outbox import Outbox
from service.batching.wait_estimate import WaitEstimate
from service.errors import ServiceError
from service.ipc.channels import Channels
from service.ipc.messages import BatchMessage, Reply
from service.ipc.reports import ModelReport
from service.ipc.slots import EXPIRED, OK
from service.process.core_slice import USUAL_SLICE_NS, set_core_slice
from tests.service.event_loop import turn

SLOTS, CLASSES, PIXELS = 32, 4, 6
IMAGE_MS = 3.0  # what an image costs at warm-up: more than a worker is given ahead
TOLD_NS = 5, 3_000_005  # when the played worker says that it took a batch up and was done


def in_another_process(channels: Channels) -> Channels:
    """The same channels with descriptors of their own."""
    others = copy.copy(channels)
    for name in ("requests", "replies", "reports", "api_reports"):
        pipes = [copy.copy(pipe) for pipe in getattr(channels, name)]
        for pipe in pipes:
            pipe.reader, pipe.writer = os.dup(pipe.reader), os.dup(pipe.writer)
        setattr(others, name, pipes)
    return others


class Played:
    """A batcher, its clients and its workers."""

    def __init__(
        self,
        workers: int = 1,
        models: int = 1,
        max_batch_size: int = 4,
        delay: float = 0.0,
        beside: "Played | None" = None,
    ) -> None:
        """`beside`: the first of two API processes, whose workers and shared state this one uses."""
        self.channels = in_another_process(beside.channels) if beside else Channels(workers, 2, SLOTS, PIXELS, CLASSES)
        self.api = 1 if beside else 0
        self.free = set(self.channels.slots_of(self.api))
        self.outcomes: dict[int, list[Result | ServiceError]] = {}
        self.batches: list[tuple[int, int, int]] = []
        latency_ms = tuple((size, size * IMAGE_MS) for size in dict.fromkeys((1, max_batch_size)))
        self.reports = [
            ModelReport(
                model,
                "ready",
                max_batch_size=max_batch_size,
                batch_latency_ms=latency_ms,
            )
            for model in range(models)
        ]
        self.epochs = [0] * self.channels.workers
        self.estimate = WaitEstimate(self.api, self.channels.shared_state, models)
        self.batcher = Batcher(
            self.api,
            self.channels,
            [delay] * models,
            self.estimate,
            Outbox(),
            self.release,
            lambda *batch: self.batches.append(batch),
        )

    def close(self) -> None:
        self.batcher.close()
        self.channels.close()

    def release(self, slots: Sequence[int]) -> None:
        assert len(set(slots)) == len(slots), f"one of {slots} was released twice"
        assert self.free.isdisjoint(slots), f"one of {slots} was released twice"
        self.free.update(slots)

    def submit(self, name: int, model: int = 0, timeout_s: float = 60.0, top_k: int = 2) -> ImageTask:
        """Queue an image whose pixels all are `name`."""
        self.outcomes[name] = []
        deadline_ns = time.monotonic_ns() + int(timeout_s * 1e9)
        task = ImageTask(self.free.pop(), model, top_k, deadline_ns, lambda: self.outcomes[name].append(task.outcome))
        self.batcher.submit(task, np.full(PIXELS, name, np.uint8))
        return task

    def up(self, worker: int = 0) -> None:
        self.epochs[worker] += 1
        self.estimate.worker_up(worker, self.reports)
        self.batcher.worker_up(worker, self.epochs[worker], self.reports)

    async def sent(self, *names: int) -> BatchMessage:
        """Submit images, and take the message that the first worker gets."""
        for name in names:
            self.submit(name)
        await turn()
        message = self.take()
        assert message is not None
        return message

    def take(self, worker: int = 0) -> BatchMessage | None:
        """What the worker would read next, if anything waits for it."""
        os.set_blocking(self.channels.requests[worker].reader, False)
        try:
            while (message := self._read(worker)).epoch != self.epochs[worker]:
                pass  # it was meant for the worker's predecessor
        except BlockingIOError:
            return None
        self.channels.shared_state.taken[worker, message.api] = message.batch
        return message

    def _read(self, worker: int) -> BatchMessage:
        return BatchMessage.unpack(os.read(self.channels.requests[worker].reader, PIPE_BUF))

    def names(self, message: BatchMessage | None) -> list[int]:
        """Whose images a batch holds."""
        assert message is not None
        return self.channels.slot_pool.pixels[list(message.slots), 0].tolist()

    def reply(self, message: BatchMessage, worker: int = 0, status: int = OK, epoch: int | None = None) -> None:
        pool = self.channels.slot_pool
        for slot in message.slots:
            pool.statuses[slot] = status
            pool.indices[slot] = [pool.pixels[slot, 0], 1, 2, 3]
            pool.probabilities[slot] = [0.7, 0.1, 0.1, 0.1]
        told = Reply(
            worker,
            message.epoch if epoch is None else epoch,
            message.batch,
            *TOLD_NS,
            len(message.slots),
            status != EXPIRED,
        )
        self.channels.shared_state.done[worker, message.api] = message.batch
        os.write(self.channels.replies[message.api].writer, told.pack())


def play(scene: Callable[[Played], Awaitable[None]], **options: float) -> Played:
    async def run() -> Played:
        played = Played(**options)  # type: ignore[arg-type]
        try:
            await scene(played)
        finally:
            played.close()
            set_core_slice(USUAL_SLICE_NS)  # that of this thread, in which other tests run
        return played

    return asyncio.run(run())


def kinds(outcomes: Sequence[Result | ServiceError]) -> list[type]:
    return [type(outcome) for outcome in outcomes]


def second(played: Played, image_ms: float) -> Played:
    """Another API process, beside workers that are up and take one image at a time."""
    other = Played(beside=played)
    for process in (played, other):
        process.reports = [ModelReport(0, "ready", max_batch_size=1, batch_latency_ms=((1, image_ms),))]
        for worker in range(played.channels.workers):
            process.up(worker)
    return other
