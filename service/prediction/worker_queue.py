"""A worker seat as one API process sees it: what it has been sent and has not answered."""

import asyncio
import os
from collections.abc import Sequence
from dataclasses import dataclass, field

from service.ipc.transport import BatchMessage
from service.prediction.image_task import Item

BATCHES = 2  # one runs, one waits; and as many small ones more as make LEAD_NS of work
LEAD_NS = 2_000_000  # a turn of a busy event loop
LATE_NS = 100_000_000  # whatever makes no more than LEAD_NS of work should long be done by then


@dataclass(eq=False, slots=True)
class Lane:
    """The way to one worker seat."""

    api: int
    seat: int
    writer: int
    costs_ns: Sequence[float]
    """Of one image, by model."""
    loads_ns: memoryview
    """The board's: how long what each API process has sent there will take."""
    epoch: int = 0
    up: bool = False
    full: bool = False
    """Its pipe has no room: other API processes, or what was meant for a dead worker, fill it."""
    batches: dict[int, list[Item]] = field(default_factory=dict)  # by batch id, oldest first
    fence: asyncio.Future[None] | None = None

    def __post_init__(self) -> None:
        self._tell_load()  # not any more what a predecessor of this process, which died, had sent

    @property
    def load_ns(self) -> int:
        """How long what all API processes have sent will take."""
        return sum(self.loads_ns)

    def takes(self) -> bool:
        """Whether the seat takes another batch."""
        return self.up and not self.full and (len(self.batches) < BATCHES or self.load_ns < LEAD_NS)

    def is_late(self, now_ns: int) -> bool:
        """Whether what it was sent should have been done by now: it may have been stopped."""
        oldest = next(iter(self.batches.values()), [])
        return bool(oldest) and now_ns - oldest[0].queued_ns > LATE_NS

    def send(self, batch: int, model: int, items: list[Item]) -> bool:
        """Send images of a model, none as a fence; False if the pipe has no room for it."""
        k = max((item.top_k for item in items), default=1)
        slots = tuple([item.slot for item in items])
        alone = any(item.retried for item in items)
        try:
            os.write(self.writer, BatchMessage(self.api, model, self.epoch, batch, k, slots, alone).pack())
        except BlockingIOError:
            return False
        self.batches[batch] = items
        self._tell_load()
        return True

    def take_back(self, batch: int) -> list[Item] | None:
        """The images of a batch that was answered, None if it is not known."""
        items = self.batches.pop(batch, None)
        self._tell_load()
        return items

    def go_down(self) -> dict[int, list[Item]]:
        """The worker is dead: return what it had been sent."""
        self.up = False
        self.pass_fence()
        lost, self.batches = self.batches, {}
        self._tell_load()
        return lost

    @property
    def fenced(self) -> bool:
        """Whether somebody waits until all that was sent before is finished."""
        return self.fence is not None and not self.fence.done()

    def pass_fence(self) -> None:
        """All that was sent before the fence is finished."""
        if self.fence and self.fenced:
            self.fence.set_result(None)

    def _tell_load(self) -> None:
        load_ns = sum([len(items) * self.costs_ns[items[0].model] for items in self.batches.values() if items])
        self.loads_ns[self.api] = int(load_ns)
