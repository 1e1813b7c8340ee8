"""What the policy does with images that were in a worker which died: one of them may end the next worker, too."""

from service.prediction.batch_policy import ModelQueue, WorkerQueue, next_batch
from service.prediction.image_task import ImageTask
from service.prediction.wait_estimate import LatencyModel

NOW_NS = 1000


def task(slot: int, *, retried: bool = False) -> ImageTask:
    return ImageTask(slot, 0, 1, 2 * NOW_NS, print, retried=retried)


def queue(*tasks: ImageTask) -> ModelQueue:
    made = ModelQueue(LatencyModel(), max_batch_size=4)
    made.tasks.update(dict.fromkeys(tasks))
    return made


def workers(loads_ns: list[list[int]], api: int = 0) -> list[WorkerQueue]:
    return [WorkerQueue(index, api, loads, up=True) for index, loads in enumerate(loads_ns)]


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
    seats = workers([[0], [0]])
    assert send_next(queues, seats) == (0, [0])
    assert send_next(queues, seats) == (1, [2, 3])
    assert send_next(queues, seats) is None  # the second one waits for the first
    queues[0].tasks.update(dict.fromkeys(task(slot) for slot in (4, 5)))
    assert send_next(queues, seats) == (1, [4, 5])
    seats[0].take_back(1)
    assert send_next(queues, seats) == (1, [1])  # which runs already
    assert send_next(queues, seats) is None


def test_a_retried_image_waits_for_one_worker_where_there_is_only_one() -> None:
    queues, seats = [queue(task(0, retried=True), task(1))], workers([[0]])
    assert send_next(queues, seats) == (0, [0])
    assert send_next(queues, seats) is None
    seats[0].take_back(1)
    assert send_next(queues, seats) == (0, [1])


def test_other_api_processes_send_nothing_behind_it_either() -> None:
    loads_ns = [[0, 0], [0, 0]]
    other = workers(loads_ns, api=1)
    assert send_next([queue(task(0, retried=True))], workers(loads_ns, api=0)) == (0, [0])
    queues = [queue(task(1, retried=True), task(2))]
    assert send_next(queues, other) == (1, [2])
    assert send_next(queues, other) is None


def test_an_image_whose_deadline_has_passed_is_found_behind_those_that_wait() -> None:
    loads_ns = [[0], [0]]
    seats = workers(loads_ns)
    late = task(1)
    late.deadline_ns = 0
    queues = [queue(task(0, retried=True), task(2, retried=True), late)]
    assert send_next(queues, seats) == (0, [0])
    batch = next_batch(queues, seats, NOW_NS)
    assert batch is not None
    assert (batch.tasks, batch.expired) == ([], [late])
