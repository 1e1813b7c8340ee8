"""What a worker makes of a batch, by its own slots and pipes, in this process."""

import os
import resource
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from select import PIPE_BUF
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from models.artifact.artifact import Artifact, read_artifact
from models.postprocess import WHOLE_SORT
from service.ipc.channels import Channels
from service.ipc.messages import WITH_LOGITS, BatchMessage, ModelCommand, Reply, unpack_replies
from service.ipc.reports import ModelReport, WorkerReport
from service.ipc.shared_memory import SharedSequence
from service.ipc.slots import EXPIRED, FAILED, OK, SlotPool
from service.policy import SUSPECT_NS
from service.worker.batch_runner import write_results
from service.worker.warmup import LoadOptions
from service.worker.worker import Worker
from tests.artifacts import LABELS, SHAPE, expected_probabilities
from tests.service.pictures import TOLERANCE, pixels
from tests.service.stock import FAILING, NOT_A_NUMBER

CLASSES = len(LABELS)
MANY = WHOLE_SORT + 5
LOGITS = npst.arrays(
    np.float32,
    st.tuples(st.integers(1, 6), st.sampled_from([CLASSES, MANY])),
    elements=st.floats(-80, 80, width=32),
)


@given(LOGITS, st.integers(1, MANY))
def test_the_k_most_probable_classes_stand_in_falling_order(logits: np.ndarray, k: int) -> None:
    k = min(k, logits.shape[1])
    pool = SlotPool(8, 1, logits.shape[1])
    slots = list(range(7, 7 - len(logits), -1))
    write_results(pool, slots, logits, k)
    for slot, row in zip(slots, logits.astype(np.float64), strict=True):
        exp = np.exp(row - row.max())
        indices = pool.indices[slot, :k]
        assert len(set(indices.tolist())) == k
        np.testing.assert_array_equal(row[indices], np.sort(row)[::-1][:k])
        np.testing.assert_allclose(pool.probabilities[slot, :k], (exp / exp.sum())[indices], rtol=1e-5, atol=1e-7)
        assert pool.statuses[slot] == OK


def test_logits_stand_beside_every_class_where_they_are_asked_for() -> None:
    """In a pool with room for a larger model."""
    logits = np.random.default_rng(0).normal(size=(2, CLASSES)).astype(np.float32)
    pool = SlotPool(2, 1, MANY)
    write_results(pool, [1, 0], logits, 3)
    assert not pool.logits.any()
    write_results(pool, [1, 0], logits, WITH_LOGITS)
    np.testing.assert_array_equal(pool.logits[[1, 0], :CLASSES], logits)
    np.testing.assert_array_equal(pool.indices[[1, 0], :CLASSES], np.argsort(-logits, axis=1))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_row_that_is_not_all_numbers_fails_alone(bad: float) -> None:
    pool = SlotPool(2, 1, CLASSES)
    logits = np.zeros((2, CLASSES), np.float32)
    logits[1, 3] = bad
    with np.errstate(invalid="ignore"):
        write_results(pool, [0, 1], logits, 1)
    assert pool.statuses.tolist() == [OK, FAILED]


@pytest.fixture(scope="module")
def worker(repository: Path) -> tuple[Worker, Channels]:
    """A worker of the second life that has loaded `faulty`, in vain `wrong`, and `faulty` once more."""
    channels = Channels(1, 2, 16, int(np.prod(SHAPE)), CLASSES)
    channels.shared_state.epochs[0] = 2
    artifacts = [read_artifact(repository / name / "1") for name in ("faulty", "wrong", "faulty")]
    return Worker(0, "cpu", artifacts, LoadOptions("auto", "auto", False, 1, {"faulty": 4}), channels), channels


def run(
    worker: tuple[Worker, Channels], firsts: list[int], *, timeout_s: float = 60.0, epoch: int = 2
) -> tuple[list[int], bytes]:
    """Statuses of a batch of images with these first pixels, and what was replied."""
    process, channels = worker
    pool, slots = channels.slot_pool, tuple(range(len(firsts)))
    for slot, first in enumerate(firsts):
        pool.statuses[slot] = -1
        pool.put(slot, pixels(slot, first), time.monotonic_ns() + int(timeout_s * 1e9))
    os.write(channels.requests[0].writer, BatchMessage(0, 0, epoch, 77, 3, slots).pack())
    process.batches.serve_one()
    return pool.statuses[: len(firsts)].tolist(), replies(channels, 0)


def replies(channels: Channels, api: int) -> bytes:
    """What the worker has replied to an API process."""
    os.set_blocking(channels.replies[api].reader, False)
    try:
        return os.read(channels.replies[api].reader, PIPE_BUF)
    except BlockingIOError:
        return b""


def run_waiting(worker: tuple[Worker, Channels], *messages: BatchMessage) -> list[list[int]]:
    """The batches, as the numbers of their messages, that a worker makes of what waits in its pipe."""
    process, channels = worker
    for message in messages:
        for slot in message.slots:
            channels.slot_pool.put(slot, pixels(slot, 200), time.monotonic_ns() + 10**11)
        os.write(channels.requests[0].writer, message.pack())
    together: dict[int, list[Reply]] = {}
    answered = 0
    while answered < len(messages):
        process.batches.serve_one()
        for api in range(2):
            for reply in unpack_replies(replies(channels, api)):
                together.setdefault(reply.taken_ns, []).append(reply)
                answered += 1
    for batch in together.values():
        size = sum(len(messages[reply.batch].slots) for reply in batch)
        assert {reply.batch_size for reply in batch} == {size}
        assert sum(reply.counts for reply in batch) == 1
    return [sorted(reply.batch for reply in batch) for batch in together.values()]


def test_a_worker_tells_of_every_model(worker: tuple[Worker, Channels]) -> None:
    lines = os.read(worker[1].reports[0].reader, 1 << 16).splitlines()
    told = list(map(WorkerReport.from_line, lines))
    assert [one.epoch for one in told] == [2, 2, 2]
    good, bad, _ = (one.report for one in told)
    assert (good.model, good.state, good.max_batch_size) == (0, "ready", 4)
    assert [size for size, ms in good.batch_latency_ms if ms > 0] == [1, 2, 4]
    assert (bad.model, bad.state) == (1, "failed")
    assert "golden example" in bad.reason


def test_a_batch_is_run_and_replied_to_once(worker: tuple[Worker, Channels]) -> None:
    before = time.monotonic_ns()
    statuses, replied = run(worker, [200, 201, 202])
    assert statuses == [OK] * 3
    (reply,) = unpack_replies(replied)
    assert reply[:3] == (0, 2, 77)
    assert reply[5:] == (3, True)
    assert before <= reply.taken_ns <= reply.done_ns <= time.monotonic_ns()
    pool = worker[1].slot_pool
    for slot in range(3):
        expected = expected_probabilities(pixels(slot, 200 + slot))
        order = np.argsort(-expected)[:3]
        assert pool.indices[slot, :3].tolist() == order.tolist()
        np.testing.assert_allclose(pool.probabilities[slot, :3], expected[order], atol=TOLERANCE)
    assert worker[1].shared_state.taken[0, 0] == 77
    assert worker[1].shared_state.began_ns[0] == 0


def message(batch: int, slots: tuple[int, ...], *, model: int = 0, most: int = 4) -> BatchMessage:
    """A message of the API process that owns the slots."""
    return BatchMessage(int(slots[0] >= 16), model, 2, batch, 1, slots, most)


def test_what_waits_runs_together_whichever_api_process_sent_it(worker: tuple[Worker, Channels]) -> None:
    assert run_waiting(worker, message(0, (0,)), message(1, (16, 17)), message(2, (1,))) == [[0, 1, 2]]
    assert worker[1].shared_state.taken[0].tolist() == [2, 1]


@pytest.mark.parametrize(
    ("second", "why"),
    [
        (message(1, (2, 3, 4)), "five images are more than may run together"),
        (message(1, (2,), model=2), "of another model"),
        (message(1, (2,), most=0), "it has been in a batch whose worker died"),
    ],
)
def test_what_may_not_run_with_the_first_runs_next(
    worker: tuple[Worker, Channels], second: BatchMessage, why: str
) -> None:
    assert run_waiting(worker, message(0, (0, 1)), second, message(2, (5,), most=0)) == [[0], [1], [2]], why


def test_nothing_runs_with_what_must_run_alone(worker: tuple[Worker, Channels]) -> None:
    assert run_waiting(worker, message(0, (0,), most=0), message(1, (1,)), message(2, (2,))) == [[0], [1, 2]]


def test_images_that_the_engine_fails_for_fail_alone(worker: tuple[Worker, Channels]) -> None:
    assert run(worker, [200, FAILING, 201, NOT_A_NUMBER])[0] == [OK, FAILED, OK, FAILED]


def test_expired_images_are_not_run(worker: tuple[Worker, Channels]) -> None:
    statuses, replied = run(worker, [200, 201], timeout_s=-1.0)
    assert statuses == [EXPIRED] * 2
    (reply,) = unpack_replies(replied)
    assert reply[5:] == (0, False)


def test_a_batch_meant_for_its_predecessor_is_left_alone(worker: tuple[Worker, Channels]) -> None:
    assert run(worker, [200], epoch=1) == ([-1], b"")


def test_a_batch_of_an_api_process_that_died_is_left_alone_once_its_successor_lives(
    worker: tuple[Worker, Channels],
) -> None:
    shared_state = worker[1].shared_state
    shared_state.first_batches[0] = 78
    assert run(worker, [200], timeout_s=-1.0) == ([-1], b"")
    assert run(worker, [200]) == ([-1], b"")
    assert shared_state.taken[0, 0] == shared_state.done[0, 0] == 77
    shared_state.first_batches[0] = 77
    assert run(worker, [200])[0] == [OK]


def obey(worker: tuple[Worker, Channels]) -> None:
    process, channels = worker
    channels.shared_state.loads_ns[0][-1] = SUSPECT_NS
    os.write(channels.requests[0].writer, ModelCommand(epoch=2, model=1, load=False, seconds=5).pack())
    process.batches.serve_one()


def test_a_worker_that_has_done_as_it_was_told_says_to_all_that_it_is_free(
    worker: tuple[Worker, Channels], monkeypatch: pytest.MonkeyPatch
) -> None:
    process, channels = worker
    marks: list[int] = []
    monkeypatch.setattr(process, "_report", lambda _: marks.append(channels.shared_state.loads_ns[0][-1]))
    obey(worker)
    assert marks == [0]  # what the supervisor says upon the report has a mark of its own
    for api in range(2):
        (reply,) = unpack_replies(replies(channels, api))
        assert (reply.worker, reply.batch, reply.batch_size) == (0, 0, 0)


def test_a_worker_does_as_it_is_told_though_an_api_process_reads_no_replies(worker: tuple[Worker, Channels]) -> None:
    _, channels = worker
    with suppress(BlockingIOError):
        while True:
            os.write(channels.replies[1].writer, bytes(PIPE_BUF))
    obey(worker)
    assert len(list(unpack_replies(replies(channels, 0)))) == 1
    while replies(channels, 1):
        pass


@contextmanager
def no_more_memory() -> Iterator[None]:
    """Nothing is mapped within the block."""
    before = resource.getrlimit(resource.RLIMIT_AS)
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize(), before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)


def test_a_model_that_there_is_no_room_for_leaves_the_others_theirs(repository: Path) -> None:
    channels = Channels(1, 1, 4, int(np.prod(SHAPE)), CLASSES)
    channels.shared_state.epochs[0] = 2
    files = SharedSequence[Artifact]()
    files.store([read_artifact(repository / name / "1") for name in ("faulty", "faulty")])
    process = Worker(0, "cpu", files, LoadOptions("auto", "auto", False, 1, {"faulty": 4}), channels, wanted={0})
    os.write(channels.requests[0].writer, ModelCommand(2, 1, load=True, seconds=60).pack())
    with no_more_memory():
        process.batches.serve_one()
    *_, told = map(WorkerReport.from_line, os.read(channels.reports[0].reader, 1 << 16).splitlines())
    assert (told.report.model, told.report.state) == (1, "failed")
    assert "memory" in told.report.reason
    assert run((process, channels), [200])[0] == [OK]
    files.close()


@contextmanager
def descriptors_as_before() -> Iterator[Callable[[], None]]:
    """Call what is given, and no file can be opened until the block ends."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        yield partial(resource.setrlimit, resource.RLIMIT_NOFILE, (1, before[1]))
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


@pytest.mark.parametrize("is_short_before", [True, False])
def test_a_model_is_not_kept_whose_memory_cannot_be_measured(repository: Path, *, is_short_before: bool) -> None:
    channels = Channels(1, 1, 4, int(np.prod(SHAPE)), CLASSES)
    channels.shared_state.epochs[0] = 2
    with descriptors_as_before() as run_short:

        class Files(list[Artifact]):
            def __getitem__(self, index: Any) -> Any:
                run_short()  # between the two looks at the memory
                return super().__getitem__(index)

        files = Files([read_artifact(repository / "faulty" / "1")])
        process = Worker(0, "cpu", files, LoadOptions("auto", "auto", False, 1, {"faulty": 4}), channels, wanted=())
        os.write(channels.requests[0].writer, ModelCommand(2, 0, load=True, seconds=60).pack())
        if is_short_before:
            run_short()
        process.batches.serve_one()
    (told,) = map(WorkerReport.from_line, os.read(channels.reports[0].reader, 1 << 16).splitlines())
    assert told.report.state == "failed"
    assert "Too many open files" in told.report.reason
    assert run((process, channels), [200])[0] == [FAILED]


def test_a_worker_with_one_model_has_no_express_thread(repository: Path) -> None:
    channels, threads = Channels(1, 1, 4, int(np.prod(SHAPE)), CLASSES), threading.active_count()
    first, express = channels.shared_state.rows_of(0)
    channels.shared_state.epochs[first] = 2
    artifact = read_artifact(repository / "faulty" / "1")
    Worker(0, "cpu", [artifact], LoadOptions("auto", "auto", False, 1, {"faulty": 4}), channels)
    assert channels.shared_state.epochs[express] == 0
    assert threading.active_count() == threads


def test_a_worker_tells_which_model_it_loads_as_long_as_it_does(
    repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    channels, loading, load = Channels(1, 1, 4, int(np.prod(SHAPE)), CLASSES), [], Worker._try_to_load

    def try_to_load(process: Worker, index: int) -> ModelReport:
        loading.append(int(channels.shared_state.loading[0]))
        return load(process, index)

    monkeypatch.setattr(Worker, "_try_to_load", try_to_load)
    artifacts = [read_artifact(repository / name / "1") for name in ("faulty", "wrong", "faulty")]
    Worker(0, "cpu", artifacts, LoadOptions("auto", "auto", False, 1, {"faulty": 4}), channels, wanted={1, 2})
    assert loading == [2, 3]
    assert channels.shared_state.loading[0] == 0
