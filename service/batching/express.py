"""Quick images that do not wait for slow ones: which go to the express threads of the workers, and how many.

Where a worker has such a thread, and a model's images are far quicker than those of another in demand, they run there,
beside the slow ones, and the system divides the cores. That is for models that ask for little: each has a budget, and
one that has spent it waits for its turn like all others. Otherwise a quick model that is overloaded would take the
others' cores, for its HTTP as well. Images that were in a worker which died do not run there.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from service.batching.batch_policy import Batch, ModelQueue, WorkerQueue, choose_worker, first_images, most_images
from service.policy import (
    EXPRESS_BURST_IMAGES,
    EXPRESS_BURST_NS,
    EXPRESS_IMAGE_NS,
    EXPRESS_PAUSE_MOST_NS,
    EXPRESS_PAUSE_NS,
    EXPRESS_RATIO,
    EXPRESS_SHARE,
)


@dataclass(eq=False, slots=True)
class ExpressBudget:
    """The time of express threads that one model may take: a token bucket. Once it is empty, the model has a pause."""

    left_ns: float = math.inf
    filled_ns: int = 0  # when it was filled last
    pause_ns: int = 0  # the last pause, and until when it lasts
    pause_until_ns: int = 0

    def spend(self, images: int, image_ns: float, now_ns: int, workers: float) -> None:
        """Take the time of so many images, `image_ns` of network each, after a refill by that of so many workers."""
        refill_ns = (now_ns - self.filled_ns) * EXPRESS_SHARE * workers
        each_ns = image_ns + EXPRESS_IMAGE_NS
        most_ns = max(EXPRESS_BURST_NS, EXPRESS_BURST_IMAGES * each_ns)
        self.left_ns, self.filled_ns = min(most_ns, self.left_ns + refill_ns) - images * each_ns, now_ns
        if self.left_ns < 0:
            self._pause(now_ns)

    def _pause(self, now_ns: int) -> None:
        """Pause longer than the last time, unless that is long ago: an overloaded model is tried ever more rarely."""
        in_a_row = now_ns - self.pause_until_ns < self.pause_ns
        self.pause_ns = min(2 * self.pause_ns, EXPRESS_PAUSE_MOST_NS) if in_a_row else EXPRESS_PAUSE_NS
        self.pause_until_ns, self.left_ns = now_ns + self.pause_ns, math.inf


def express_batch(
    queues: Sequence[ModelQueue], budgets: Sequence[ExpressBudget], threads: Sequence[WorkerQueue], now_ns: int
) -> Batch | None:
    """The batch to be sent to an express thread now, None if there is none; nothing is changed."""
    demand = [queue for queue in queues if queue.is_in_demand(now_ns)]
    if len(demand) < 2:
        return None
    sound = [thread for thread in threads if not (thread.beside and thread.beside.is_in_doubt)]
    longest_ns = max(queue.latency.warm_ns for queue in demand)
    shared_ns = max([queue.begun_ns for queue in queues], default=0.0)
    for model, (queue, budget) in enumerate(zip(queues, budgets, strict=True)):
        is_quick = queue.latency.warm_ns * EXPRESS_RATIO <= longest_ns
        if not queue.tasks or not is_quick or budget.pause_until_ns > now_ns or queue.fills_until_ns > now_ns:
            continue
        if thread := choose_worker(sound, model, queue, now_ns, contended=True):
            most = most_images(queue, [queue])
            tasks, expired = first_images(queue, most, None, now_ns)
            if tasks or expired:
                return Batch(thread, model, tasks, expired, max(queue.served_ns, shared_ns), most)
    return None
