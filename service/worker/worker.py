"""What a worker process does: load every model, prove each, then answer batches until it is ended.

A worker blocks in `read` on its seat's request pipe: it burns nothing when idle, and it begins a batch the moment that
there is one. What else lies in the pipe by then, of any API process, runs with it. Everything here is free of LitServe,
which `service.supervisor.litserve` puts around it.
"""

import itertools
import json
import os
import select
import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict

import numpy as np
import structlog
from numpy.typing import NDArray

from models.artifact.artifact import Artifact
from models.artifact.metadata import ArtifactError
from models.engines.engine import EngineError
from models.postprocess import most_probable, softmax
from service.ipc.reports import ModelReport
from service.ipc.transport import EXPIRED, FAILED, MAX_REPLIES, OK, PIPE_BUF, BatchMessage, Channels, Region, Reply
from service.worker.warmup import Load, LoadedModel, load_model

log = structlog.get_logger()


def write_results(region: Region, slots: Sequence[int], logits: NDArray[np.float32], k: int) -> None:
    """Write logits, and the k most probable classes in falling order, of every row into its slot."""
    where, (n, classes) = np.asarray(slots), logits.shape
    indices = most_probable(logits, k)
    region.logits[where, :classes] = logits
    region.indices[where, :k] = indices
    region.probabilities[where, :k] = softmax(logits)[np.arange(n)[:, np.newaxis], indices]
    region.statuses[where] = np.where(np.isfinite(logits).all(axis=1), OK, FAILED)


class Worker:
    """One seat's process."""

    def __init__(self, seat: int, device: str, artifacts: Sequence[Artifact], load: Load, channels: Channels) -> None:
        self._seat, self._channels, self._board = seat, channels, channels.board
        self._requests = channels.requests[seat].reader
        self._more = select.poll()
        self._more.register(self._requests, select.POLLIN)
        self._next: BatchMessage | None = None  # read, but not to be run with those before it
        self._epoch = int(channels.board.epochs[seat])
        self._board.began_ns[seat] = 0
        self._models: dict[int, LoadedModel] = {}
        for index, artifact in enumerate(artifacts):
            self._report(self._load(index, artifact, device, load))

    def _load(self, index: int, artifact: Artifact, device: str, load: Load) -> ModelReport:
        began = time.monotonic()
        try:
            model = load_model(artifact, device, load)
        except (ArtifactError, EngineError) as error:
            return ModelReport(index, "failed", reason=str(error))
        self._models[index] = model
        engine = model.engine
        return ModelReport(
            index,
            "ready",
            engine=engine.name,
            device=engine.device,
            precision=engine.precision,
            load_seconds=time.monotonic() - began,
            max_batch_size=model.max_batch_size,
            paying_batch_size=model.paying_batch_size,
            batch_latency_ms=tuple((size, ns / 1e6) for size, ns in model.latency_ns.items()),
        )

    def _report(self, report: ModelReport) -> None:
        line = json.dumps({"epoch": self._epoch, **asdict(report)}) + "\n"
        os.write(self._channels.reports[self._seat].writer, line.encode())

    def serve_one(self) -> None:
        """Wait for a batch, run it, and reply."""
        messages = self._take()
        taken = time.monotonic_ns()
        for message in messages:
            self._board.taken[self._seat, message.api] = message.batch
        ran = self._run(messages, taken)
        self._reply(messages, taken, ran)

    def _take(self) -> list[BatchMessage]:
        """The next message, waited for, and those behind it that are there already and may run with it."""
        first = self._next or self._read()
        self._next = None
        if first is None:
            return []
        taken, room = [first], self._models[first.model].paying_batch_size - len(first.slots) if first.slots else 0
        while not first.alone and len(taken) < MAX_REPLIES and self._more.poll(0):
            if message := self._read():
                room -= len(message.slots)
                if message.model != first.model or message.alone or room < 0:
                    self._next = message
                    break
                taken.append(message)
        return taken

    def _read(self) -> BatchMessage | None:
        """The pipe's next message, None if it was meant for a worker that has died since: its API process knows."""
        message = BatchMessage.unpack(os.read(self._requests, PIPE_BUF))
        return message if message.epoch == self._epoch else None

    def _run(self, messages: list[BatchMessage], taken: int) -> list[int]:
        """Run what has not expired; return how many images of each message that were."""
        region = self._channels.region
        alive = [[slot for slot in message.slots if region.deadlines[slot] > taken] for message in messages]
        for message, slots in zip(messages, alive, strict=True):
            for slot in set(message.slots).difference(slots):
                region.statuses[slot] = EXPIRED
        if together := list(itertools.chain.from_iterable(alive)):
            model = self._models[messages[0].model]
            self._board.limit_ns[self._seat] = model.limit_ns(len(together))
            self._board.began_ns[self._seat] = taken
            try:
                self._infer(model, together, max(message.top_k for message in messages))
            finally:
                self._board.began_ns[self._seat] = 0
        return list(map(len, alive))

    def _infer(self, model: LoadedModel, slots: list[int], k: int) -> None:
        """Run a batch; if it fails, run each image alone, so that one bad image fails alone."""
        region = self._channels.region
        try:
            logits = model.engine.run(region.images(slots, model.shape))
        except EngineError:
            log.exception("inference failed", images=len(slots), seat=self._seat)
            if len(slots) == 1:
                region.statuses[slots[0]] = FAILED
                return
            for slot in slots:
                self._infer(model, [slot], k)
            return
        write_results(region, slots, logits, k)

    def _reply(self, messages: list[BatchMessage], taken: int, ran: list[int]) -> None:
        """Tell each API process of its images; the first one that had any in the batch counts it."""
        done, size = time.monotonic_ns(), sum(ran)
        counts = next((place for place, n in enumerate(ran) if n), None)
        replies: defaultdict[int, list[bytes]] = defaultdict(list)
        for place, message in enumerate(messages):
            reply = Reply(self._seat, self._epoch, message.batch, taken, done, size, place == counts)
            replies[message.api].append(reply.pack())
        for api, packed in replies.items():
            os.write(self._channels.replies[api].writer, b"".join(packed))
