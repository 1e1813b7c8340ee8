"""Models share the workers: the policy plays against a clock of its own, with models that want more than there is."""

import itertools
from collections import Counter
from dataclasses import dataclass, field

import pytest

from service.ipc.reports import ModelReport
from service.prediction.batch_policy import ModelQueue, WorkerQueue, next_batch
from service.prediction.image_task import ImageTask
from service.prediction.wait_estimate import LatencyModel

MS = 1_000_000
SECOND = 1000 * MS


def queue_of(image_ms: float, largest: int = 8, paying: int = 2) -> ModelQueue:
    latency = LatencyModel()
    latencies = tuple((size, size * image_ms) for size in (1, largest))
    latency.learn(ModelReport(0, "ready", batch_latency_ms=latencies))
    return ModelQueue(latency, max_batch_size=largest, paying_batch_size=paying)


@dataclass
class World:
    """Workers that run what they are sent, in order, for as long as it costs."""

    queues: list[ModelQueue]
    workers: int = 1
    now_ns: int = 10 * SECOND
    worked_ns: Counter[int] = field(default_factory=Counter)  # by model
    waits_ns: dict[int, list[int]] = field(default_factory=dict)  # until the end of its batch, by model

    def __post_init__(self) -> None:
        everything = frozenset(range(len(self.queues)))
        self.seats = [WorkerQueue(i, 0, [0], models=everything, up=True) for i in range(self.workers)]
        self.running: list[list[tuple[int, int, list[ImageTask]]]] = [[] for _ in self.seats]  # batch, end, images
        self.ids = itertools.count()

    def arrive(self, model: int, images: int = 1) -> None:
        for _ in range(images):
            task = ImageTask(0, model, 1, self.now_ns + 1000 * SECOND, on_done=lambda: None, queued_ns=self.now_ns)
            self.queues[model].add(task)

    def dispatch(self) -> None:
        while batch := next_batch(self.queues, self.seats, self.now_ns):
            queue, running = self.queues[batch.model], self.running[batch.worker.worker]
            cost_ns = int(len(batch.tasks) * queue.latency.image_ns)
            for task in batch.tasks:
                del queue.tasks[task]
            queue.begun_ns, queue.served_ns = batch.begins_ns, batch.begins_ns + cost_ns
            begins_ns = running[-1][1] if running else self.now_ns
            name = next(self.ids)
            batch.worker.add(name, batch.tasks, cost_ns)
            running.append((name, begins_ns + cost_ns, batch.tasks))
            self.worked_ns[batch.model] += cost_ns
            for task in batch.tasks:
                self.waits_ns.setdefault(batch.model, []).append(begins_ns + cost_ns - task.queued_ns)

    def run_until(self, end_ns: int) -> None:
        self.dispatch()
        while any(self.running) and (first := min(running[0][1] for running in self.running if running)) <= end_ns:
            self.now_ns = first
            for seat, running in zip(self.seats, self.running, strict=True):
                while running and running[0][1] <= first:
                    seat.take_back(running.pop(0)[0])
            self.dispatch()
        self.now_ns = end_ns


@pytest.mark.parametrize("image_ms", [(30.0, 10.0), (10.0, 30.0), (100.0, 5.0), (10.0, 10.0)])
@pytest.mark.parametrize("workers", [1, 2])
def test_two_models_that_want_everything_get_half_of_the_time_each(image_ms: tuple[float, float], workers: int) -> None:
    world = World([queue_of(ms) for ms in image_ms], workers)
    for model in (0, 1):
        world.arrive(model, 100_000)
    for _ in range(100):
        for model in (0, 1):
            world.arrive(model)  # demand goes on
        world.run_until(world.now_ns + SECOND // 5)
    assert world.worked_ns[0] == pytest.approx(world.worked_ns[1], rel=0.05)


@pytest.mark.parametrize("place", [0, 1, 2])
def test_a_third_model_waits_for_one_batch_of_another_at_the_most(place: int) -> None:
    """It is asked five times a second; alone an image of it takes 20 ms, a batch of the others as long."""
    queues = [queue_of(10.0), queue_of(10.0)]
    queues.insert(place, queue_of(20.0))
    world = World(queues)
    for _ in range(200):
        for model in {0, 1, 2} - {place}:
            world.arrive(model, 50)
        world.arrive(place)
        world.run_until(world.now_ns + SECOND // 5)
    assert len(world.waits_ns[place]) >= 199
    assert max(world.waits_ns[place][1:]) <= 2 * 20 * MS  # the first comes with the first of the others


def test_a_model_that_was_idle_has_no_claim_on_all_the_time_that_others_had() -> None:
    world = World([queue_of(10.0), queue_of(10.0)])
    for _ in range(100):
        world.arrive(0, 50)
        world.run_until(world.now_ns + SECOND // 5)
    before = world.worked_ns.copy()
    for model in (0, 1):
        world.arrive(model, 1000)
    world.run_until(world.now_ns + SECOND)
    grown = world.worked_ns - before
    assert grown[0] > 0.3 * SECOND
    assert grown[1] > 0.5 * SECOND


def test_a_model_alone_has_full_batches_and_one_sent_ahead() -> None:
    world = World([queue_of(10.0), queue_of(10.0)])
    world.arrive(0, 100)
    world.dispatch()
    assert [len(tasks) for _, _, tasks in world.running[0]] == [8, 8]
