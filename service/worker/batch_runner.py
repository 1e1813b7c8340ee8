"""What a thread of a worker does: reads batches from its pipe, runs them, and replies."""

import itertools
import os
import select
import time
from collections import defaultdict, deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from select import PIPE_BUF

import numpy as np
import structlog
from numpy.typing import NDArray

from models.engines.engine import EngineError
from models.postprocess import most_probable, softmax
from service.ipc.channels import Channels
from service.ipc.messages import MAX_REPLIES, WITH_LOGITS, BatchMessage, ModelCommand, Reply
from service.ipc.slots import EXPIRED, FAILED, OK, SlotPool
from service.worker.warmup import LoadedModel

log = structlog.get_logger()


def write_results(pool: SlotPool, slots: Sequence[int], logits: NDArray[np.float32], k: int) -> None:
    """Write the k most probable classes of every row of logits, in falling order, into its slot; see WITH_LOGITS."""
    where = np.asarray(slots)
    if k == WITH_LOGITS:
        k = logits.shape[1]
        pool.logits[where, :k] = logits
    indices = most_probable(logits, k)
    pool.indices[where, :k] = indices
    pool.probabilities[where, :k] = softmax(logits)[np.arange(len(logits))[:, np.newaxis], indices]
    pool.statuses[where] = np.where(np.isfinite(logits).all(axis=1), OK, FAILED)


class BatchRunner:
    """Runs the batches that come through one pipe; `obey` gets the supervisor's commands, which lie between them.

    It blocks in `read` on the pipe: it uses no CPU when idle, and begins a batch the moment that there is one. What
    else lies in the pipe by then, of any API process, runs with it.
    """

    def __init__(
        self,
        row: int,
        epoch: int,
        channels: Channels,
        models: Mapping[int, LoadedModel],
        obey: Callable[[ModelCommand], None],
    ) -> None:
        """`row`: of the shared state, and of the pipe; `models` by their numbers."""
        self._row, self._epoch, self._models, self._obey = row, epoch, models, obey
        self._worker = channels.worker_of(row)
        self._shared_state, self._slot_pool = channels.shared_state, channels.slot_pool
        self._replies = channels.replies
        self._requests = channels.requests[row].reader
        self._more = select.poll()
        self._more.register(self._requests, select.POLLIN)
        self._next: BatchMessage | None = None  # read, but not to be run with those before it
        self._commands: deque[ModelCommand] = deque()

    def serve(self) -> None:
        """Answer batches until the process is ended."""
        while True:
            self.serve_one()

    def serve_one(self) -> None:
        """Wait for a batch, run it, and reply."""
        taken, shared_state = self._take(), self._shared_state
        taken_ns = time.monotonic_ns()
        for message in taken:
            shared_state.taken[self._row, message.api] = message.batch
        first = shared_state.first_batches
        messages = [message for message in taken if message.batch >= first[message.api]]  # none of a dead process
        ran = self._run(messages, taken_ns)
        for message in taken:
            shared_state.done[self._row, message.api] = message.batch
        self._reply(messages, taken_ns, ran)
        if self._commands:
            self._obey(self._commands.popleft())
            self._tell_free()

    def _take(self) -> list[BatchMessage]:
        """The next message, waited for, and those behind it that are there already and may run with it."""
        first = self._next or self._read()
        self._next = None
        if first is None:
            return []
        taken, images, most = [first], len(first.slots), first.most
        while images < most and len(taken) < MAX_REPLIES and self._more.poll(0):
            if message := self._read():
                images, most = images + len(message.slots), min(most, message.most)
                if message.model != first.model or images > most:
                    self._next = message
                    break
                taken.append(message)
        return taken

    def _read(self) -> BatchMessage | None:
        """The pipe's next batch; None if it is for a former life of this worker, whose end its API process knows of.

        A command of the supervisor is kept for later.
        """
        message = BatchMessage.unpack(os.read(self._requests, PIPE_BUF))
        if message.epoch == self._epoch:
            return message
        if (command := ModelCommand.of(message)) and command.epoch == self._epoch:
            self._commands.append(command)
        return None

    def _run(self, messages: list[BatchMessage], taken_ns: int) -> list[int]:
        """Run what has not expired; return how many images of each message that were."""
        pool, shared_state = self._slot_pool, self._shared_state
        alive = [[slot for slot in message.slots if pool.deadlines[slot] > taken_ns] for message in messages]
        for message, slots in zip(messages, alive, strict=True):
            for slot in set(message.slots).difference(slots):
                pool.statuses[slot] = EXPIRED
        together = list(itertools.chain.from_iterable(alive))
        model = self._models.get(messages[0].model) if messages else None
        if together and model is None:
            pool.statuses[together] = FAILED
        elif model and together:
            limits_ns = model.limits_ns
            shared_state.limit_ns[self._row] = limits_ns[min(len(together), len(limits_ns) - 1)]
            shared_state.began_ns[self._row] = taken_ns
            try:
                self._infer(model, together, max(message.top_k for message in messages))
            finally:
                shared_state.began_ns[self._row] = 0
        return list(map(len, alive))

    def _infer(self, model: LoadedModel, slots: list[int], k: int) -> None:
        """Run a batch; if it fails, run each image alone, so that one bad image fails alone."""
        pool = self._slot_pool
        try:
            logits = model.engine.run(pool.images(slots, model.shape))
        except EngineError:
            log.exception("inference failed", images=len(slots), worker=self._worker)
            if len(slots) == 1:
                pool.statuses[slots[0]] = FAILED
                self._prove(model)
                return
            for slot in slots:
                self._infer(model, [slot], k)
            return
        write_results(pool, slots, logits, k)

    @staticmethod
    def _prove(model: LoadedModel) -> None:
        """EngineError if the engine does not run what it ran at warm-up: then it is not the image's fault."""
        model.engine.run(np.zeros((1, *model.shape), np.uint8))

    def _reply(self, messages: list[BatchMessage], taken_ns: int, ran: list[int]) -> None:
        """Reply to each API process that had images in the batch; the first of them counts it."""
        done_ns, size = time.monotonic_ns(), sum(ran)
        counts = next((place for place, n in enumerate(ran) if n), None)
        replies: defaultdict[int, list[bytes]] = defaultdict(list)
        for place, message in enumerate(messages):
            reply = Reply(self._row, self._epoch, message.batch, taken_ns, done_ns, size, place == counts)
            replies[message.api].append(reply.pack())
        for api, packed in replies.items():
            os.write(self._replies[api].writer, b"".join(packed))

    def _tell_free(self) -> None:
        """Have all API processes send again what they kept back from this worker: a reply to no batch."""
        for pipe in self._replies:
            with suppress(BlockingIOError):  # it is full of replies, which do as much
                os.write(pipe.writer, Reply(self._row, self._epoch, 0, 0, 0, 0, counts=False).pack())
