"""What a worker makes of a batch, by its own slots and pipes, in this process."""

import json
import os
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from models.artifact import read_artifact
from service.loading import Load
from service.transport import EXPIRED, FAILED, OK, PIPE_BUF, BatchMessage, Channels, Region, Reply, unpack_replies
from service.worker import Worker, softmax, write_results
from tests.artifacts import LABELS, SHAPE, expected_probabilities
from tests.service.pictures import TOLERANCE, pixels
from tests.service.stock import FAILING, NOT_A_NUMBER

CLASSES = len(LABELS)
LOGITS = npst.arrays(np.float32, st.tuples(st.integers(1, 6), st.just(CLASSES)), elements=st.floats(-80, 80, width=32))


@settings(derandomize=True, deadline=None)
@given(LOGITS, st.integers(1, CLASSES))
def test_the_k_most_probable_classes_stand_in_falling_order(logits: np.ndarray, k: int) -> None:
    region = Region(8, 1, CLASSES)
    slots = list(range(7, 7 - len(logits), -1))
    write_results(region, slots, logits, k)
    for slot, row in zip(slots, logits.astype(np.float64), strict=True):
        exp = np.exp(row - row.max())
        indices = region.indices[slot, :k]
        assert len(set(indices.tolist())) == k
        np.testing.assert_array_equal(row[indices], np.sort(row)[::-1][:k])
        np.testing.assert_allclose(region.probabilities[slot, :k], (exp / exp.sum())[indices], rtol=1e-5, atol=1e-7)
        np.testing.assert_array_equal(region.logits[slot], row)
        assert region.statuses[slot] == OK


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_row_that_is_not_all_numbers_fails_alone(bad: float) -> None:
    region = Region(2, 1, CLASSES)
    logits = np.zeros((2, CLASSES), np.float32)
    logits[1, 3] = bad
    with np.errstate(invalid="ignore"):
        write_results(region, [0, 1], logits, 1)
    assert region.statuses.tolist() == [OK, FAILED]


def test_softmax_bears_large_logits() -> None:
    assert softmax(np.array([[1e4, 0.0], [-1e4, -1e4]], np.float32)).tolist() == [[1.0, 0.0], [0.5, 0.5]]


@pytest.fixture(scope="module")
def worker(repository: Path) -> tuple[Worker, Channels]:
    """A worker of the second life of its seat that has loaded `faulty` and, in vain, `wrong`."""
    channels = Channels(1, 1, 16, int(np.prod(SHAPE)), CLASSES)
    channels.board.epochs[0] = 2
    artifacts = [read_artifact(repository / name / "1") for name in ("faulty", "wrong")]
    return Worker(0, "cpu", artifacts, Load("auto", "auto", False, 1, {"faulty": 4}), channels), channels


def run(
    worker: tuple[Worker, Channels], firsts: list[int], *, timeout_s: float = 60.0, epoch: int = 2
) -> tuple[list[int], bytes]:
    """Statuses of a batch of images with these first pixels, and what was replied."""
    seat, channels = worker
    region, slots = channels.regions[0], tuple(range(len(firsts)))
    for slot, first in enumerate(firsts):
        region.statuses[slot] = -1
        region.put(slot, pixels(slot, first), time.monotonic_ns() + int(timeout_s * 1e9))
    os.write(channels.requests[0].writer, BatchMessage(0, 0, epoch, 77, 3, slots).pack())
    seat.serve_one()
    os.set_blocking(channels.replies[0].reader, False)
    try:
        replied = os.read(channels.replies[0].reader, PIPE_BUF)
    except BlockingIOError:
        replied = b""
    return region.statuses[: len(firsts)].tolist(), replied


def test_a_worker_tells_of_every_model(worker: tuple[Worker, Channels]) -> None:
    lines = os.read(worker[1].reports[0].reader, 1 << 16).splitlines()
    good, bad = map(json.loads, lines)
    assert (good["model"], good["state"], good["epoch"], good["max_batch_size"]) == (0, "ready", 2, 4)
    assert [size for size, ms in good["batch_latency_ms"] if ms > 0] == [1, 2, 4]
    assert (bad["model"], bad["state"], bad["epoch"]) == (1, "failed", 2)
    assert "golden example" in bad["reason"]


def test_a_batch_is_run_and_replied_to_once(worker: tuple[Worker, Channels]) -> None:
    before = time.monotonic_ns()
    statuses, replied = run(worker, [200, 201, 202])
    assert statuses == [OK] * 3
    (reply,) = unpack_replies(replied)
    assert reply[:3] == (0, 2, 77)
    assert before <= reply.taken_ns <= reply.done_ns <= time.monotonic_ns()
    region = worker[1].regions[0]
    for slot in range(3):
        expected = expected_probabilities(pixels(slot, 200 + slot))
        order = np.argsort(-expected)[:3]
        assert region.indices[slot, :3].tolist() == order.tolist()
        np.testing.assert_allclose(region.probabilities[slot, :3], expected[order], atol=TOLERANCE)
    assert worker[1].board.taken[0, 0] == 77
    assert worker[1].board.began_ns[0] == 0


def test_images_that_the_engine_fails_for_fail_alone(worker: tuple[Worker, Channels]) -> None:
    assert run(worker, [200, FAILING, 201, NOT_A_NUMBER])[0] == [OK, FAILED, OK, FAILED]


def test_expired_images_are_not_run(worker: tuple[Worker, Channels]) -> None:
    statuses, replied = run(worker, [200, 201], timeout_s=-1.0)
    assert statuses == [EXPIRED] * 2
    assert len(list(unpack_replies(replied))) == 1


def test_a_batch_meant_for_its_predecessor_is_left_alone(worker: tuple[Worker, Channels]) -> None:
    assert run(worker, [200], epoch=1) == ([-1], b"")


def test_a_fence_is_answered(worker: tuple[Worker, Channels]) -> None:
    statuses, replied = run(worker, [])
    assert statuses == []
    assert [Reply(*reply).batch for reply in unpack_replies(replied)] == [77]
