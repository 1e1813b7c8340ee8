"""What clients see when a worker dies while its express thread runs quick images beside slow ones."""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from tests.artifacts import make_artifact
from tests.faults.conftest import HANG_LOOPS, HANGS
from tests.faults.ledger import DEAR, DEFAULT_ALONE, Ledger, Question, load
from tests.faults.test_worker import restarted
from tests.service.core_slices import Scheduled, needs_core_slices
from tests.service.pictures import png
from tests.service.served import DEADLINE_S, Served, Servers

SLOW_LOOPS = 10  # of about a millisecond, for any picture, so that the start finds the model slow, too
SLOW_CONNECTIONS, QUICK_CONNECTIONS = 6, 2


@pytest.fixture(scope="session")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A slow model, and a quick one whose graph loops for ever when a picture asks for it."""
    path = tmp_path_factory.mktemp("express")
    make_artifact(path, "quick", loops={HANGS: HANG_LOOPS})
    make_artifact(path, DEAR, loops=dict.fromkeys(range(256), SLOW_LOOPS))
    return path


@pytest.fixture
def served(repository: Path) -> Iterator[Served]:
    """A server whose workers have express threads."""
    servers = Servers("--model-repository", repository, "--default-model", "quick", "--workers", "2")
    started = servers().ready()
    for worker in range(2):
        started.wait_for_event("express thread started", worker=worker)
    yield started
    servers.close()


@contextmanager
def both_loads(served: Served) -> Iterator[tuple[Ledger, Ledger]]:
    """More slow requests than the workers can run at a time, and quick ones."""
    with (
        load(served, SLOW_CONNECTIONS, timeout_s=30, questions=[Question.of_dear()]) as slow,
        load(served, QUICK_CONNECTIONS, timeout_s=30, questions=DEFAULT_ALONE) as quick,
    ):
        yield slow, quick
        slow.wait_for(20)
        quick.wait_for(50)
    assert set(slow.summary()) == set(quick.summary()) == {(200, "")}


@needs_core_slices
def test_threads_that_quick_pictures_pass_have_shorter_slices_of_a_core_than_those_of_slow_ones(served: Served) -> None:
    first, api = Scheduled.of(served.worker()), Scheduled.of(served.api_processes()[0])
    threads = [int(path.name) for path in Path(f"/proc/{served.worker()}/task").iterdir()]
    assert (first.slice_ns, api.slice_ns) == (100_000_000, 100_000)
    others = [Scheduled.of(thread) for thread in threads if thread != served.worker()]
    assert [each.niceness for each in others if each.slice_ns == api.slice_ns] == [api.niceness]
    assert first.niceness > api.niceness


def test_a_worker_killed_while_express_work_runs_loses_no_request(served: Served) -> None:
    with both_loads(served):
        os.kill(served.worker(), signal.SIGKILL)
        restarted(served, "exit")


def test_a_quick_picture_that_hangs_costs_no_other_request_and_is_named(served: Served) -> None:
    with both_loads(served):
        headers = {"X-Request-Timeout-Ms": "30000", "X-Request-ID": "the-one-that-hangs"}
        url = served.url + "/predict"
        answer = httpx.post(url, content=png(0, HANGS), headers=headers, timeout=DEADLINE_S)
        restarted(served, "hang", times=2)  # once in an express thread, once alone
    assert (answer.status_code, answer.json()["reason"]) == (503, "worker_lost")
    named = [event for event in served.events("batch lost", model="quick") if "the-one-that-hangs" in event["requests"]]
    assert [event["reason"] for event in named] == ["hang", "hang"]
    assert named[1]["images"] == 1
