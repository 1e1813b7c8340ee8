"""What clients see when a worker is killed, stopped, starved of memory, or fails."""

import os
import resource
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import httpx
import pytest

from service.policy import HANG_FLOOR_NS
from tests.artifacts import make_slow_starter
from tests.faults.conftest import FAILS, HANGS, HOARDS, TOILS
from tests.faults.ledger import load
from tests.service.pictures import png
from tests.service.served import DEADLINE_S, Served, Servers, until

OTHERS = 30
RESTARTS = 'resnet_worker_restarts_total{{reason="{}"}}'


def restarted(served: Served, reason: str, times: int = 1) -> None:
    """Wait until a worker has been replaced so often for this reason, and every worker is up again."""

    def back() -> bool:
        samples = served.metrics()
        up = [value for name, value in samples.items() if name.startswith("resnet_worker_up")]
        return samples[RESTARTS.format(reason)] >= times and all(up)

    until(back, f"the worker back after {reason}")


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGABRT, signal.SIGSEGV], ids=lambda number: number.name)
@pytest.mark.parametrize("workers", [1, 2])
def test_a_killed_worker_loses_no_request(serve: Servers, workers: int, number: int) -> None:
    served = serve("--workers", str(workers)).ready()
    with load(served) as ledger:
        os.kill(served.worker(), number)
        restarted(served, "exit")
        ledger.wait_for(50)
    assert set(ledger.summary()) <= {(200, "")} | ({(503, "unavailable")} if workers == 1 else set())


def test_readiness_tells_when_no_worker_is_there(serve: Servers) -> None:
    served = serve("--workers", "1").ready()
    os.kill(served.worker(), signal.SIGKILL)
    until(lambda: served.status("/readyz") == 503, "not ready")
    assert served.status("/livez") == 200
    until(lambda: served.status("/readyz") == 200, "ready again")
    assert served.metrics()['resnet_worker_up{worker="0"}'] == 1


def test_a_stopped_worker_is_replaced_and_its_requests_are_answered(serve: Servers) -> None:
    served = serve("--workers", "2").ready()
    with load(served) as ledger:
        os.kill(served.worker(), signal.SIGSTOP)
        restarted(served, "hang")
        ledger.wait_for(50)
    assert set(ledger.summary()) == {(200, "")}


def test_a_worker_that_is_stopped_while_idle_is_replaced_before_it_is_needed(serve: Servers) -> None:
    served = serve("--workers", "2").ready()
    os.kill(served.worker(), signal.SIGSTOP)
    restarted(served, "hang")


def test_a_picture_that_hangs_the_engine_costs_no_other_request(serve: Servers) -> None:
    served = serve("--workers", "2").ready()
    with load(served, timeout_s=30) as ledger:
        answer = httpx.post(
            served.url + "/predict",
            content=png(0, HANGS),
            headers={"X-Request-Timeout-Ms": "30000"},
            timeout=DEADLINE_S,
        )
        restarted(served, "hang", times=2)  # once with its batch, once alone
        ledger.wait_for(50)
    assert (answer.status_code, answer.json()["reason"]) == (503, "worker_lost")
    assert int(answer.headers["retry-after"]) > 0
    assert set(ledger.summary()) == {(200, "")}


@contextmanager
def core_of_others(pid: int) -> Iterator[None]:
    """Have a process share one core with busy programs, which are given nearly all of it."""
    core = {min(os.sched_getaffinity(0))}
    for thread in Path(f"/proc/{pid}/task").iterdir():
        os.sched_setaffinity(int(thread.name), core)
    busy = []
    try:
        for _ in range(OTHERS):  # each in a session, of which the kernel may give all the same share
            busy.append(subprocess.Popen(["sh", "-c", "while :; do :; done"], start_new_session=True))
            os.sched_setaffinity(busy[-1].pid, core)
        yield
    finally:
        for program in busy:
            program.kill()
            program.wait()


def test_a_worker_that_waits_for_a_core_does_not_hang(serve: Servers) -> None:
    served = serve("--workers", "1").ready()
    patience = {"X-Request-Timeout-Ms": "60000"}
    with core_of_others(served.worker()):
        began = time.monotonic()
        answer = httpx.post(served.url + "/predict", content=png(0, TOILS), headers=patience, timeout=DEADLINE_S)
        took_ns = (time.monotonic() - began) * 1e9
    assert answer.status_code == 200, answer.text
    assert took_ns > HANG_FLOOR_NS, "it has hardly waited"
    assert not served.events("worker hangs")


def test_a_hanging_picture_whose_deadline_is_short_is_504(serve: Servers) -> None:
    served = serve("--workers", "1").ready()
    headers = {"X-Request-Timeout-Ms": "300"}
    answer = httpx.post(served.url + "/predict", content=png(0, HANGS), headers=headers, timeout=DEADLINE_S)
    assert answer.status_code == 504
    restarted(served, "hang")
    assert httpx.post(served.url + "/predict", content=png(), timeout=DEADLINE_S).status_code == 200


def test_a_picture_that_fails_in_the_engine_fails_alone(serve: Servers) -> None:
    served = serve("--workers", "1").ready()
    with load(served) as ledger:
        codes = {
            httpx.post(served.url + "/predict", content=png(seed, FAILS), timeout=DEADLINE_S).status_code
            for seed in range(10)
        }
        ledger.wait_for(50)
    assert codes == {500}
    assert set(ledger.summary()) == {(200, "")}
    assert sum(value for name, value in served.metrics().items() if name.startswith("resnet_worker_restarts")) == 0


def test_a_worker_without_memory_answers_errors_or_is_replaced(serve: Servers) -> None:
    served = serve("--workers", "1").ready()
    with load(served) as ledger:
        pid = served.worker()
        resource.prlimit(pid, resource.RLIMIT_AS, (1 << 20, 1 << 20))  # nothing more can be had
        ledger.wait_for(5)
        with suppress(ProcessLookupError):  # it may have ended itself
            os.kill(pid, signal.SIGKILL)
        restarted(served, "exit")
        ledger.wait_for(50)
    # An engine that gets no memory fails for its images; a worker that dies of it twice loses them.
    assert set(ledger.summary()) <= {(200, ""), (500, "internal_error"), (503, "unavailable")}


def test_a_picture_for_which_the_kernel_kills_costs_no_other_request(memory_group: Path, serve: Servers) -> None:
    served = serve("--workers", "1", "--request-timeout", str(DEADLINE_S / 2)).ready()
    for pid in served.processes():
        (memory_group / "cgroup.procs").write_text(str(pid))
    with load(served) as ledger:
        answer = httpx.post(served.url + "/predict", content=png(0, HOARDS), timeout=DEADLINE_S)
        restarted(served, "oom", times=2)  # once with its batch, once alone
        ledger.wait_for(50)
    assert (answer.status_code, answer.json()["reason"]) == (503, "worker_lost")
    assert set(ledger.summary()) <= {(200, ""), (503, "unavailable")}


def test_a_worker_killed_while_it_starts_is_started_again(serve: Servers) -> None:
    served = serve("--workers", "1")
    served.wait_for_event("worker started", worker=0)
    os.kill(served.worker(), signal.SIGKILL)
    served.ready()
    assert httpx.post(served.url + "/predict", content=png(), timeout=DEADLINE_S).status_code == 200


@pytest.fixture(scope="module")
def slow_starter(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("slow")
    make_slow_starter(path, "slow")
    return path


def test_a_worker_that_cannot_start_ends_the_server(slow_starter: Path) -> None:
    with Served("--model-repository", slow_starter, "--workers", "1") as served:
        for life in range(3):
            until(lambda life=life: len(served.events("worker started")) > life, f"start {life + 1}")
            os.kill(served.worker(), signal.SIGKILL)
        assert served.wait() == 1
        assert "before they are ready" in served.events("giving up")[0]["why"]


def test_workers_that_do_not_load_in_time_end_the_server(slow_starter: Path) -> None:
    with Served("--model-repository", slow_starter, "--workers", "1", "--start-timeout", "0.1") as served:
        assert served.wait() == 1
        assert len(served.events("worker hangs", why="it did not load its models in time")) == 3
        assert len(served.events("worker died", reason="hang")) == 3
        assert "before they are ready" in served.events("giving up")[0]["why"]
