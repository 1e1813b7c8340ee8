"""The queue and the batches of one API process: images in, results out, and who holds what in between.

The queue is first in, first out for each model. What arrives in one turn of the event loop is sent at its end, or as
soon as it makes a batch that pays. A worker seat holds the batch that runs and one that waits, and a few more if they
are short: so a free worker does not wait while this process reads and writes HTTP, and work never waits behind a busy
worker longer than it must. What waits for a worker, of all API processes, it runs together. No timer, no polling.
Everything runs on the event loop's thread.
"""

import asyncio
import itertools
import os
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from service.errors import DeadlineExceeded, InternalError, ServiceError, Unavailable
from service.ipc.reports import ModelReport
from service.ipc.transport import EXPIRED, MAX_BATCH_SIZE, OK, Channels, Reply, unpack_replies
from service.prediction.image_task import Item, Outcome, Result
from service.prediction.worker_queue import LEAD_NS, Lane

Queue = OrderedDict[Item, None]  # in order of arrival, and whoever leaves is out of it at once

WAKE_NS = 1_000_000  # a worker with less work than this gets more, before an idle one is woken
QUICK_IMAGE_NS = 60_000  # an API process needs that long itself for an image, and keeps one worker busy, not two


class Batcher:
    """Sends what is queued to the seats in batches, and hands each result to whoever waits for it.

    `release` gets back slots, each exactly once, when nobody can write to it any more. `on_batch` hears of each batch
    that was answered: (model, size, ns in the worker).
    """

    def __init__(
        self,
        api: int,
        channels: Channels,
        batch_delays: Sequence[float],
        release: Callable[[Sequence[int]], None],
        on_batch: Callable[[int, int, int], None],
    ) -> None:
        self._api, self._board = api, channels.board
        self._region, self._replies = channels.region, channels.replies[api].reader
        self._max_batch_sizes = [1] * len(batch_delays)  # told by the workers
        self._paying_batch_sizes = [MAX_BATCH_SIZE] * len(batch_delays)
        self._costs_ns = [0.0] * len(batch_delays)  # of one image
        self._lanes = [
            Lane(api, seat, pipe.writer, self._costs_ns, loads_ns)
            for seat, (pipe, loads_ns) in enumerate(zip(channels.requests, channels.board.loads_ns, strict=True))
        ]
        self._delays_ns = [int(delay * 1e9) for delay in batch_delays]
        self._waiting: set[int] = set()  # models with a timer set
        self._release, self._on_batch = release, on_batch
        self._queues: list[Queue] = [OrderedDict() for _ in batch_delays]
        self._ids = itertools.count(time.monotonic_ns())  # above every id of this process's predecessor
        self._loop = asyncio.get_running_loop()
        self._dispatch_is_due = False
        os.set_blocking(self._replies, False)
        self._loop.add_reader(self._replies, self._read_replies)

    def close(self) -> None:
        """Stop listening to the workers."""
        self._loop.remove_reader(self._replies)
        for lane in self._lanes:
            self._loop.remove_writer(lane.writer)

    @property
    def depth(self) -> int:
        """How many images wait that no worker was given yet."""
        return sum(map(len, self._queues))

    def submit(self, item: Item, pixels: NDArray[np.uint8]) -> None:
        """Queue an image, uint8 [h, w, c]; its slot is the batcher's from now on."""
        self._region.put(item.slot, pixels, item.deadline_ns)
        item.queued_ns = time.monotonic_ns()
        queue = self._queues[item.model]
        queue[item] = None
        if len(queue) % self._paying_batch_sizes[item.model] == 0:
            self._read_replies()  # not only once a turn: in a long one the workers would run dry
        elif not self._dispatch_is_due:
            self._dispatch_is_due = True
            self._loop.call_soon(self._on_turn)

    def withdraw(self, item: Item) -> None:
        """Nobody wants its result any more: its slot is free at once, unless a worker was told to write there."""
        item.wanted = False
        queue = self._queues[item.model]
        if item in queue:
            del queue[item]
            self._release((item.slot,))

    def _on_turn(self) -> None:
        self._dispatch_is_due = False
        self._dispatch()

    def _dispatch(self) -> None:
        for model, queue in enumerate(self._queues):
            while queue and not self._waits_to_fill(model, queue) and (lane := self._choose_lane(model)):
                items = self._take(queue, self._max_batch_sizes[model])
                if items and not self._send(lane, model, items):
                    for item in reversed(items):
                        self._put_back(item)

    def _send(self, lane: Lane, model: int, items: list[Item]) -> bool:
        """Send them, or look again once there is room for them."""
        if lane.send(next(self._ids), model, items):
            return True
        lane.full = True
        self._loop.add_writer(lane.writer, self._on_room, lane)
        return False

    def _on_room(self, lane: Lane) -> None:
        lane.full = False
        self._loop.remove_writer(lane.writer)
        if lane.fenced and not lane.batches:
            self._send(lane, 0, [])
        self._dispatch()

    def _waits_to_fill(self, model: int, queue: Queue) -> bool:
        """Whether a batch may still grow; if so, dispatch again when its first image has waited long enough."""
        delay_ns = self._delays_ns[model]
        if not delay_ns or len(queue) >= self._max_batch_sizes[model]:
            return False
        left_ns = next(iter(queue)).queued_ns + delay_ns - time.monotonic_ns()
        if left_ns > 0 and model not in self._waiting:
            self._waiting.add(model)
            self._loop.call_later(left_ns / 1e9, self._on_waited, model)
        return left_ns > 0

    def _on_waited(self, model: int) -> None:
        self._waiting.remove(model)
        self._dispatch()

    def _choose_lane(self, model: int) -> Lane | None:
        """The least loaded; but an idle worker is woken only if the others have enough to do.

        On few cores a small net is served faster by one worker with larger batches than by several: if its images are
        quick, by one that has as much as it takes.
        """
        lanes = [lane for lane in self._lanes if lane.takes()]
        now, wake_ns = time.monotonic_ns(), WAKE_NS if self._costs_ns[model] > QUICK_IMAGE_NS else LEAD_NS
        running = [lane for lane in lanes if 0 < lane.load_ns < wake_ns and not lane.is_late(now)]
        return min(running or lanes, key=lambda lane: lane.load_ns, default=None)

    def _take(self, queue: Queue, most: int) -> list[Item]:
        """The next batch from the queue's head, without what expired."""
        items: list[Item] = []
        now = time.monotonic_ns()
        while queue and len(items) < most:
            item = next(iter(queue))
            if item.retried and items:
                break
            del queue[item]
            if item.deadline_ns <= now:
                self._end(item, DeadlineExceeded("the deadline passed while the request waited in the queue"))
            else:
                items.append(item)
                if item.retried:
                    break
        return items

    def _read_replies(self) -> None:
        """Take up what the workers have finished, if anything, and send what is queued."""
        try:
            data = os.read(self._replies, 1 << 16)
        except BlockingIOError:
            data = b""
        done = []
        for reply in unpack_replies(data):
            lane = self._lanes[reply.seat]
            if reply.epoch == lane.epoch and (items := lane.take_back(reply.batch)) is not None:
                done.append((lane, items, reply))
        self._dispatch()  # first: the workers go on while the answers are written
        for lane, items, reply in done:
            if items:
                self._finish(items, reply)
            else:
                lane.pass_fence()

    def _finish(self, items: list[Item], reply: Reply) -> None:
        slots = [item.slot for item in items]
        k = max(item.top_k for item in items)
        statuses = self._region.statuses[slots].tolist()
        indices = self._region.indices[slots, :k].tolist()
        probabilities = self._region.probabilities[slots, :k].tolist()
        self._release(slots)
        for item, status, classes, shares in zip(items, statuses, indices, probabilities, strict=True):
            if status == OK:
                if item.top_k < k:
                    classes, shares = classes[: item.top_k], shares[: item.top_k]
                item.finish(Result(classes, shares, reply.batch_size, reply.taken_ns, reply.done_ns))
            elif status == EXPIRED:
                item.finish(DeadlineExceeded("the deadline passed while the request waited for its worker"))
            else:
                item.finish(InternalError("the engine failed for this image"))
        if reply.counts:
            self._on_batch(items[0].model, reply.batch_size, reply.done_ns - reply.taken_ns)

    def _end(self, item: Item, outcome: Outcome) -> None:
        self._release((item.slot,))
        item.finish(outcome)

    def seat_up(self, index: int, epoch: int, reports: Iterable[ModelReport]) -> None:
        """The seat's worker of this epoch is ready; its reports tell which batches pay and what an image costs."""
        for report in reports:
            self._max_batch_sizes[report.model] = min(report.max_batch_size, MAX_BATCH_SIZE)
            self._paying_batch_sizes[report.model] = report.paying_batch_size
            self._costs_ns[report.model] = report.image_cost_ns
        lane = self._lanes[index]
        lane.epoch, lane.up = epoch, True
        self._dispatch()

    async def settle(self) -> None:
        """Wait until no seat works any more on what a predecessor of this process, which died, had sent.

        Each seat that is up gets an empty batch, a fence: once that is answered, or the seat is dead, all is finished
        that was sent before. Until then no slot may be used.
        """
        for lane in self._lanes:
            if lane.up:
                lane.fence = self._loop.create_future()
                self._send(lane, 0, [])
        await asyncio.gather(*(lane.fence for lane in self._lanes if lane.fence))

    def seat_down(self, index: int) -> None:
        """The seat's worker is dead: retry alone, once, what it had begun; queue again what it had not."""
        begun = int(self._board.taken[index, self._api])
        lost = self._lanes[index].go_down()
        for batch, items in sorted(lost.items(), reverse=True):
            for item in reversed(items):
                self._recover(item, was_running=batch <= begun)
        self._dispatch()

    def _recover(self, item: Item, *, was_running: bool) -> None:
        if item.wanted and was_running and item.retried:
            self._end(item, Unavailable("worker_lost", "the worker died twice while it ran this request"))
        else:
            item.retried = item.retried or was_running
            self._put_back(item)

    def _put_back(self, item: Item) -> None:
        """Make it the first of its queue, unless it was withdrawn while it was not there."""
        if item.wanted:
            queue = self._queues[item.model]
            queue[item] = None
            queue.move_to_end(item, last=False)
        else:
            self._release((item.slot,))

    def fail_all(self, error: ServiceError) -> None:
        """Answer everyone who still waits with this error; slots that workers hold stay theirs."""
        for queue in self._queues:
            while queue:
                self._end(queue.popitem(last=False)[0], error)
        for lane in self._lanes:
            for item in itertools.chain.from_iterable(lane.batches.values()):
                item.finish(error)
