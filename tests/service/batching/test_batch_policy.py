"""Which images run together, and in which worker: situations, and what must be sent in each."""

import itertools
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import pytest

from service.batching.batch_policy import Batch, ModelQueue, WorkerQueue, choose_worker, copies_worker, next_batch
from service.batching.image_task import ImageTask
from service.batching.wait_estimate import LatencyModel
from service.ipc.reports import ModelReport
from service.policy import BATCHES_PER_WORKER, LATE_NS, LEAD_NS, QUICK_IMAGE_NS, SUSPECT_NS, WAIT_SHARE, WAKE_NS

NOW_NS = 10 * LATE_NS
QUICK_NS, SLOW_NS = QUICK_IMAGE_NS, QUICK_IMAGE_NS + 1  # of an image at warm-up, on either side of the bound
DELAY_NS = 1000


def image(name: int, *, age_ns: int = 0, left_ns: int = LATE_NS, retried: bool = False) -> ImageTask:
    """An image that has waited for so long and has so much time left; its slot is its name here."""
    return ImageTask(name, 0, 1, NOW_NS + left_ns, lambda: None, queued_ns=NOW_NS - age_ns, retried=retried)


def urgent(name: int, age_ns: int) -> ImageTask:
    """An image of this age that can wait for half of DELAY_NS in all, if it runs with another."""
    time_ns = int((2 * SLOW_NS + DELAY_NS // 2) / WAIT_SHARE)
    return image(name, age_ns=age_ns, left_ns=time_ns - age_ns)


def latency(image_ns: int, largest: int = 1) -> LatencyModel:
    """Of a model whose images took so long at warm-up."""
    model = LatencyModel()
    model.learn(ModelReport(0, "ready", max_batch_size=largest, batch_latency_ms=((1, image_ns / 1e6),)))
    return model


@dataclass(frozen=True)
class Sent:
    """A worker's state: nanoseconds of work that it has been sent, in how many batches, how old the oldest is."""

    load_ns: int = 0
    batches: int = 1
    age_ns: int = 0
    others_ns: int = 0  # what the other API process has sent it
    up: bool = True
    full: bool = False

    def worker(self, index: int) -> WorkerQueue:
        """As the batcher keeps it."""
        batches = {batch: [image(100 + batch, age_ns=self.age_ns)] for batch in range(self.batches)}
        models = frozenset(range(9))
        queue = WorkerQueue(index, 0, [0, self.others_ns], models=models, up=self.up, full=self.full, batches=batches)
        queue.loads_ns[0] = self.load_ns
        return queue


IDLE = Sent(batches=0)
DOWN, FULL = Sent(batches=0, up=False), Sent(batches=0, full=True)


@pytest.mark.parametrize(
    ("image_ns", "workers", "chosen"),
    [
        pytest.param(SLOW_NS, [], None, id="there is no worker"),
        pytest.param(SLOW_NS, [DOWN, DOWN], None, id="all workers are down"),
        pytest.param(SLOW_NS, [DOWN, IDLE], 1, id="a worker that is down gets nothing"),
        pytest.param(SLOW_NS, [FULL, IDLE], 1, id="a worker whose pipe is full gets nothing"),
        pytest.param(SLOW_NS, [FULL, DOWN], None, id="none takes more"),
        pytest.param(SLOW_NS, [IDLE, IDLE], 0, id="the first of those that have equally little"),
        pytest.param(
            SLOW_NS, [Sent(LEAD_NS, BATCHES_PER_WORKER)], None, id="enough batches that take as long as a turn"
        ),
        pytest.param(SLOW_NS, [Sent(LEAD_NS - 1, BATCHES_PER_WORKER)], 0, id="enough batches, but short ones"),
        pytest.param(SLOW_NS, [Sent(99 * LEAD_NS, BATCHES_PER_WORKER - 1)], 0, id="few batches, however long"),
        pytest.param(SLOW_NS, [Sent(3 * WAKE_NS), Sent(2 * WAKE_NS)], 1, id="the one with least of two that have much"),
        pytest.param(SLOW_NS, [Sent(WAKE_NS // 2), Sent(WAKE_NS // 4)], 1, id="the one with least of two with little"),
        pytest.param(SLOW_NS, [IDLE, Sent(WAKE_NS - 1)], 1, id="slow images: an idle worker is not woken for little"),
        pytest.param(SLOW_NS, [IDLE, Sent(WAKE_NS)], 0, id="slow images: an idle worker is woken for more"),
        pytest.param(QUICK_NS, [IDLE, Sent(WAKE_NS)], 1, id="quick images: an idle worker is not even woken then"),
        pytest.param(QUICK_NS, [IDLE, Sent(LEAD_NS - 1)], 1, id="quick images: one worker until it has a turn's work"),
        pytest.param(QUICK_NS, [IDLE, Sent(LEAD_NS)], 0, id="quick images: an idle worker is woken then"),
        pytest.param(
            SLOW_NS, [IDLE, Sent(batches=0, others_ns=WAKE_NS - 1)], 1, id="another API process keeps it working"
        ),
        pytest.param(
            SLOW_NS, [IDLE, Sent(WAKE_NS // 2, others_ns=WAKE_NS // 2)], 0, id="what both have sent is enough"
        ),
        pytest.param(
            QUICK_NS, [Sent(1, age_ns=LATE_NS + 1), IDLE], 1, id="a late worker gets no more than an idle one"
        ),
        pytest.param(QUICK_NS, [Sent(1, age_ns=LATE_NS), IDLE], 0, id="a worker is not late yet"),
        pytest.param(QUICK_NS, [Sent(1, age_ns=LATE_NS + 1)], 0, id="a late worker is all that there is"),
    ],
)
def test_work_goes_to(image_ns: int, workers: Sequence[Sent], chosen: int | None) -> None:
    """The worker at this place of the list, or none."""
    queues = [sent.worker(i) for i, sent in enumerate(workers)]
    worker = choose_worker(queues, 0, ModelQueue(latency(image_ns)), NOW_NS, contended=False)
    assert (worker and worker.worker) == chosen


@pytest.mark.parametrize(
    ("workers", "idle", "any_"),
    [
        pytest.param([], None, None, id="there is no worker"),
        pytest.param([FULL], None, None, id="a worker whose pipe is full gets nothing"),
        pytest.param([IDLE, IDLE], 1, 1, id="the last of those with nothing to do: images prefer the first"),
        pytest.param([IDLE, Sent(1)], 0, 0, id="the one with nothing to do"),
        pytest.param([Sent(2), Sent(1), Sent(3)], None, 1, id="all have something to do"),
        pytest.param([Sent(batches=0, others_ns=1)], None, 0, id="another API process keeps it working"),
        pytest.param([Sent(SUSPECT_NS)], None, None, id="it runs an image that was in a worker that died"),
    ],
)
def test_copies_go_to(workers: Sequence[Sent], idle: int | None, any_: int | None) -> None:
    """The worker at this place of the list, of those with nothing to do, and of all; or none."""
    queues = [sent.worker(i) for i, sent in enumerate(workers)]
    found = [copies_worker(queues, 0, idle=only_idle) for only_idle in (True, False)]
    assert [worker and worker.worker for worker in found] == [idle, any_]
    assert copies_worker(queues, 9, idle=False) is None  # no worker has that model


@dataclass(frozen=True)
class Queued:
    """A model's queue: its images in order of arrival, and how they may be put together."""

    images: Sequence[ImageTask] = ()
    max_batch_size: int = 4
    delay_ns: int = 0

    def queue(self) -> ModelQueue:
        """As the batcher keeps it."""
        queue = ModelQueue(latency(SLOW_NS, self.max_batch_size), self.delay_ns)
        queue.tasks.update(dict.fromkeys(self.images))
        return queue


@dataclass(frozen=True)
class Expected:
    """A batch: images by name."""

    names: Sequence[int]
    expired: Sequence[int] = field(default_factory=list)
    model: int = 0
    worker: int = 0


def expected(batch: Batch | None) -> Expected | None:
    """The same of a batch that was made."""
    if batch is None:
        return None
    names, ended = ([task.slot for task in tasks] for tasks in (batch.tasks, batch.expired))
    return Expected(names, ended, batch.model, batch.worker.worker)


@dataclass(frozen=True)
class Situation:
    """What is queued and which workers there are."""

    queues: Sequence[Queued]
    workers: Sequence[Sent] = field(default_factory=lambda: [IDLE])


def images(*names: int) -> list[ImageTask]:
    """Fresh images, all with time left."""
    return [image(name) for name in names]


SITUATIONS = [
    pytest.param(Situation([]), None, id="no model is served"),
    pytest.param(Situation([Queued(), Queued()]), None, id="nothing is queued"),
    pytest.param(Situation([Queued(images(1))], [DOWN]), None, id="no worker takes it"),
    pytest.param(
        Situation([Queued(images(1))], [DOWN, IDLE]), Expected([1], worker=1), id="a lone image waits for none"
    ),
    pytest.param(Situation([Queued(images(1, 2, 3))]), Expected([1, 2, 3]), id="all that is there, in its order"),
    pytest.param(Situation([Queued(images(1, 2, 3), 2)]), Expected([1, 2]), id="as many as a batch may have"),
    pytest.param(Situation([Queued(images(1), delay_ns=DELAY_NS)]), None, id="an image may wait for others"),
    pytest.param(
        Situation([Queued([image(1, age_ns=DELAY_NS - 1)], delay_ns=DELAY_NS)]), None, id="the delay is not over yet"
    ),
    pytest.param(
        Situation([Queued([image(1, age_ns=DELAY_NS), image(2)], delay_ns=DELAY_NS)]),
        Expected([1, 2]),
        id="the delay of the oldest is over",
    ),
    pytest.param(
        Situation([Queued([image(1), urgent(2, DELAY_NS // 2)], delay_ns=DELAY_NS)]),
        Expected([1, 2]),
        id="the most urgent has just the time left that both will run",
    ),
    pytest.param(
        Situation([Queued([image(1), urgent(2, DELAY_NS // 2 - 5)], delay_ns=DELAY_NS)]),
        None,
        id="the most urgent has more time left than both will run",
    ),
    pytest.param(
        Situation([Queued([image(1, left_ns=SLOW_NS)], delay_ns=DELAY_NS)]),
        Expected([1]),
        id="no time to wait",
    ),
    pytest.param(
        Situation([Queued(images(1, 2), 2, delay_ns=DELAY_NS)]), Expected([1, 2]), id="a full batch waits for no more"
    ),
    pytest.param(
        Situation([Queued([image(1), image(2, left_ns=0), image(3, left_ns=1)])]),
        Expected([1, 3], [2]),
        id="an image whose deadline is now ends, its neighbours run",
    ),
    pytest.param(
        Situation([Queued([image(1, left_ns=-1), *images(2, 3)], 2)]),
        Expected([2, 3], [1]),
        id="an expired image takes no room",
    ),
    pytest.param(
        Situation([Queued([image(1, left_ns=-1), image(2, left_ns=-1)])]),
        Expected([], [1, 2]),
        id="all have expired",
    ),
    pytest.param(
        Situation([Queued([image(1, retried=True), *images(2, 3)])]), Expected([1]), id="a retried image runs alone"
    ),
    pytest.param(
        Situation([Queued([image(1), image(2, retried=True), image(3)])]),
        Expected([1, 3]),
        id="a retried image does not join others, and those behind it do not wait for it",
    ),
    pytest.param(
        Situation([Queued([image(1, left_ns=-1), image(2, retried=True)])]),
        Expected([2], [1]),
        id="a retried image behind an expired one is the first",
    ),
    pytest.param(
        Situation([Queued(images(1, 2)), Queued(images(3))]), Expected([1, 2]), id="two models do not share a batch"
    ),
    pytest.param(Situation([Queued(), Queued(images(3))]), Expected([3], model=1), id="the second model has images"),
    pytest.param(
        Situation([Queued(images(1), delay_ns=DELAY_NS), Queued(images(3))]),
        Expected([3], model=1),
        id="a model whose batch fills does not hold up the other",
    ),
]


@pytest.mark.parametrize(("situation", "batch"), SITUATIONS)
def test_the_next_batch_is(situation: Situation, batch: Expected | None) -> None:
    """These images of this model in this worker, or none; to be asked changes nothing, and is answered alike twice."""
    queues = [queued.queue() for queued in situation.queues]
    workers = [sent.worker(i) for i, sent in enumerate(situation.workers)]
    before = snapshot(queues, workers)
    assert expected(next_batch(queues, workers, NOW_NS)) == batch
    assert snapshot(queues, workers) == before
    assert expected(next_batch(queues, workers, NOW_NS)) == batch


def snapshot(queues: Sequence[ModelQueue], workers: Sequence[WorkerQueue]) -> list[object]:
    """Everything that a decision could change."""
    return [
        *([(task, task.wanted, task.outcome, task.retried) for task in queue.tasks] for queue in queues),
        *((w.epoch, w.up, w.full, list(w.loads_ns), {b: list(t) for b, t in w.batches.items()}) for w in workers),
    ]


# Models that share the workers: the policy plays against a clock of its own

MS = 1_000_000
SECOND = 1000 * MS


def queue_of(image_ms: float, largest: int = 8) -> ModelQueue:
    latency = LatencyModel()
    latencies = tuple((size, size * image_ms) for size in (1, largest))
    latency.learn(ModelReport(0, "ready", max_batch_size=largest, batch_latency_ms=latencies))
    return ModelQueue(latency)


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
        world.arrive(model, 10_000)
    for _ in range(100):
        for model in (0, 1):
            world.arrive(model)  # demand goes on
        world.run_until(world.now_ns + SECOND // 5)
    assert all(queue.tasks for queue in world.queues)
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
    assert grown.total() > 0.8 * SECOND  # two batches of the first had been sent ahead
    assert abs(grown[1] - grown[0]) < 0.1 * SECOND


def test_a_model_alone_has_full_batches_and_one_sent_ahead() -> None:
    world = World([queue_of(10.0), queue_of(10.0)])
    world.arrive(0, 100)
    world.dispatch()
    assert [len(tasks) for _, _, tasks in world.running[0]] == [8, 8]


# Images that were in a worker which died: one of them may end the next worker, too


def task(slot: int, *, retried: bool = False) -> ImageTask:
    return ImageTask(slot, 0, 1, 2 * NOW_NS, print, queued_ns=NOW_NS, retried=retried)


def queue(*tasks: ImageTask) -> ModelQueue:
    made = ModelQueue(latency(SLOW_NS, largest=4))
    made.tasks.update(dict.fromkeys(tasks))
    return made


def workers(loads_ns: list[list[int]], api: int = 0) -> list[WorkerQueue]:
    return [WorkerQueue(index, api, loads, models=frozenset({0}), up=True) for index, loads in enumerate(loads_ns)]


def send_next(queues: list[ModelQueue], seats: list[WorkerQueue]) -> tuple[int, list[int]] | None:
    """Send what the policy chooses: to which worker, and which slots."""
    batch = next_batch(queues, seats, NOW_NS)
    if batch is None:
        return None
    assert batch.tasks
    for one in batch.tasks:
        del queues[0].tasks[one]
    batch.worker.add(1 + max([0, *batch.worker.batches]), batch.tasks, 5)
    return batch.worker.worker, [one.slot for one in batch.tasks]


def test_a_retried_image_runs_alone_in_a_worker_that_others_do_not_wait_for() -> None:
    queues = [queue(task(0, retried=True), task(1, retried=True), task(2), task(3))]
    seats = workers([[0, 0], [0, 0]])
    assert send_next(queues, seats) == (0, [0])
    assert send_next(queues, seats) == (1, [2, 3])
    assert send_next(queues, seats) is None  # the second one waits for the first
    queues[0].tasks.update(dict.fromkeys(task(slot) for slot in (4, 5)))
    assert send_next(queues, seats) == (1, [4, 5])
    seats[0].take_back(1)
    assert send_next(queues, seats) == (1, [1])  # which runs already
    assert send_next(queues, seats) is None


def test_a_retried_image_waits_for_one_worker_where_there_is_only_one() -> None:
    queues, seats = [queue(task(0, retried=True), task(1))], workers([[0, 0]])
    assert send_next(queues, seats) == (0, [0])
    assert send_next(queues, seats) is None
    seats[0].take_back(1)
    assert send_next(queues, seats) == (0, [1])


def test_other_api_processes_send_nothing_behind_it_either() -> None:
    loads_ns = [[0, 0, 0], [0, 0, 0]]
    other = workers(loads_ns, api=1)
    assert send_next([queue(task(0, retried=True))], workers(loads_ns, api=0)) == (0, [0])
    queues = [queue(task(1, retried=True), task(2))]
    assert send_next(queues, other) == (1, [2])
    assert send_next(queues, other) is None


def test_a_worker_that_loads_a_model_gets_nothing_and_keeps_no_retried_image_from_another_one() -> None:
    queues = [queue(task(0, retried=True), task(1))]
    seats = workers([[0, SUSPECT_NS], [0, 0]])
    assert send_next(queues, seats) == (1, [0])
    assert send_next(queues, seats) is None
    seats[0].loads_ns[-1] = 0
    assert send_next(queues, seats) == (0, [1])


def test_an_image_whose_deadline_has_passed_is_found_behind_those_that_wait() -> None:
    loads_ns = [[0, 0], [0, 0]]
    seats = workers(loads_ns)
    late = task(1)
    late.deadline_ns = 0
    queues = [queue(task(0, retried=True), task(2, retried=True), late)]
    assert send_next(queues, seats) == (0, [0])
    batch = next_batch(queues, seats, NOW_NS)
    assert batch is not None
    assert (batch.tasks, batch.expired) == ([], [late])
