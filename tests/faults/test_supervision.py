"""What the supervisor does about processes that cannot be started, stand still, or are signalled by others."""

import json
import os
import resource
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

import httpx
import pytest

from tests.artifacts import make_artifact, value_at_start
from tests.faults.conftest import HANGS
from tests.faults.ledger import load
from tests.faults.stuck_server import WAYS
from tests.service.pictures import check, pixels, png
from tests.service.served import DEADLINE_S, Served, Servers, stopped, until

STOPS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT)
API_HANGS = 'resnet_api_restarts_total{reason="hang"}'
GREED_BYTES = 400 << 20
INFLIGHT, LOST = "resnet_inflight_requests", "resnet_requests_lost_total"


class PidsGroup:
    """A control group that bounds how many processes and threads a server may have (`docker run --pids-limit`)."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def bound(self, served: Served, most: int | str) -> None:
        """Let the server have so many from now on."""
        for pid in served.processes():
            with suppress(ProcessLookupError):
                (self._path / "cgroup.procs").write_text(str(pid))
        (self._path / "pids.max").write_text(str(most))

    def within(self, most: int) -> list[str]:
        """The command by which a server starts with room for so many."""
        (self._path / "pids.max").write_text(str(most))
        return ["sh", "-c", f'echo $$ > {self._path}/cgroup.procs && exec "$@"', "sh"]

    @property
    def size(self) -> int:
        """How many there are."""
        return int((self._path / "pids.current").read_text())


@pytest.fixture
def pids_group() -> Iterator[PidsGroup]:
    first = Path("/sys/fs/cgroup/pids")
    path = (first if first.is_dir() else first.parent) / f"resnet-serve-pids-{os.getpid()}"
    try:
        path.mkdir()
        (path / "pids.max").write_text("max")
    except OSError as error:
        with suppress(OSError):
            path.rmdir()
        pytest.skip(f"no control group that limits processes can be made here: {error}")
    yield PidsGroup(path)
    until(lambda: not (path / "cgroup.procs").read_text(), "the group's processes to end")
    path.rmdir()


def predict(served: Served, first: int = 255) -> httpx.Response:
    return httpx.post(served.url + "/predict", content=png(first=first), timeout=DEADLINE_S)


@contextmanager
def failing(strace: str, pid: int, fault: str, trace: Path) -> Iterator[Callable[[], int]]:
    """Have the kernel fail a system call of a process meanwhile; how often it has."""
    flags = (f"--attach={pid}", f"--output={trace}", f"--inject={fault}")
    tracer = subprocess.Popen([strace, *flags], stderr=subprocess.DEVNULL)
    try:
        until(lambda: "TracerPid:\t0" not in Path(f"/proc/{pid}/status").read_text() or tracer.poll(), "strace")
        if tracer.poll():
            pytest.skip("strace may not attach to other processes here")
        yield lambda: trace.read_text().count("(INJECTED)")
    finally:
        tracer.terminate()
        tracer.wait(DEADLINE_S)


def descriptors(pid: int) -> int:
    return sum(1 for _ in Path(f"/proc/{pid}/fd").iterdir())


# Starts that fail


def test_processes_that_cannot_be_started_are_started_once_there_is_room(pids_group: PidsGroup, serve: Servers) -> None:
    served = serve("--workers", "1", "--api-processes", "2").ready()
    open_before = descriptors(served.process.pid)
    pids_group.bound(served, 1)
    os.kill(served.worker(), signal.SIGKILL)
    os.kill(served.api_processes()[0], signal.SIGKILL)
    for event in ("worker not started", "API process not started"):
        assert "temporarily unavailable" in served.wait_for_event(event)["why"]
    until(lambda: served.status("/readyz") == 503, "not ready")
    until(lambda: len(served.events("API process not started")) > 2, "more tries")
    pids_group.bound(served, "max")
    until(lambda: len(served.events("worker up")) == 2 and len(served.api_processes()) == 2, "their successors")
    until(lambda: served.status("/readyz") == 200, "ready")
    check(predict(served).json(), pixels())
    until(lambda: descriptors(served.process.pid) <= open_before, "failed starts to leave no descriptor open")
    assert served.stop() == 0, served.log


def test_a_server_that_gives_up_says_why_first_in_lines_of_json(pids_group: PidsGroup, serve: Servers) -> None:
    served = serve(
        *("--workers", "1", "--api-processes", "1"),
        within=pids_group.within(1),
        OMP_NUM_THREADS="2",  # with one, numpy starts none
        RESNET_SERVE_LOG_FORMAT="json",
    )
    assert served.wait() == 1
    events = [json.loads(line, parse_constant=pytest.fail)["event"] for line in served.lines]
    assert events.index("giving up") > max(i for i, event in enumerate(events) if event.endswith("not started"))


def test_a_server_that_cannot_start_a_process_can_be_stopped(pids_group: PidsGroup, serve: Servers) -> None:
    served = serve("--workers", "1").ready()
    pids_group.bound(served, 1)
    os.kill(served.worker(), signal.SIGKILL)
    served.wait_for_event("worker not started")
    assert served.stop() == 0, served.log


# Workers


def test_requests_do_not_wait_for_a_worker_that_cannot_be_started(pids_group: PidsGroup, serve: Servers) -> None:
    patient = ("--request-timeout", str(DEADLINE_S), "--max-request-timeout", str(DEADLINE_S))
    served = serve("--workers", "1", *patient, "--api-processes", "1").ready()
    pids_group.bound(served, 1)
    with ThreadPoolExecutor(1) as pool:
        with stopped(served.process.pid, served.worker()):
            held = pool.submit(predict, served)
            until(lambda: served.metrics()[INFLIGHT] == 1, "the request")
            os.kill(served.worker(), signal.SIGKILL)
        assert (held.result().status_code, held.result().json()["reason"]) == (503, "worker_lost")
    began = time.monotonic()
    answers = [predict(served) for _ in range(5)]
    assert time.monotonic() - began < DEADLINE_S, "they waited for their deadline"
    assert {(answer.status_code, answer.json()["reason"]) for answer in answers} == {(503, "worker_lost")}
    assert all(int(answer.headers["retry-after"]) > 0 for answer in answers)
    assert served.stop() == 0


def test_the_log_names_what_hung(serve: Servers) -> None:
    served = serve("--workers", "2").ready()
    headers = {"X-Request-ID": "poison", "X-Request-Timeout-Ms": "60000"}
    with load(served, timeout_s=60) as ledger:
        answer = httpx.post(served.url + "/predict", content=png(0, HANGS), headers=headers, timeout=DEADLINE_S)
        ledger.wait_for(50)
    assert (answer.status_code, answer.json()["reason"]) == (503, "worker_lost")
    first, second = served.events("batch lost", reason="hang", model="faulty")
    assert "poison" in first["requests"]
    assert first["images"] >= 1
    assert (second["requests"], second["images"]) == (["poison"], 1)
    assert set(ledger.summary()) == {(200, "")}


@pytest.mark.parametrize("workers", [1, 2])
def test_a_default_model_that_a_worker_cannot_load_again_does_not_end_the_server(tmp_path: Path, workers: int) -> None:
    make_artifact(tmp_path / "models", "greedy", hoards={value_at_start(tmp_path): GREED_BYTES})
    flags = ("--model-repository", tmp_path / "models", "--workers", str(workers), "--max-batch-size", "1")
    with Served(*flags) as served:
        first, *others = served.ready().workers()
        most = min(virtual_bytes(pid) for pid in (first, *others)) - GREED_BYTES // 2
        resource.prlimit(served.process.pid, resource.RLIMIT_AS, (most, resource.RLIM_INFINITY))
        os.kill(first, signal.SIGKILL)
        until(lambda: len(served.events("model failed", worker=0)) > 1 or served.process.poll(), "more than one try")
        assert served.workers()[1:] == others
        if others:
            check(predict(served).json(), pixels())
        resource.prlimit(served.process.pid, resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        until(lambda: len(served.events("worker up", worker=0)) == 2, "the worker back")
        check(predict(served).json(), pixels())
        assert served.stop() == 0


def test_a_worker_that_cannot_begin_says_why_in_a_line_and_is_tried_again(serve: Servers) -> None:
    served = serve("--workers", "2", "--log-format", "json").ready()
    resource.prlimit(
        served.process.pid, resource.RLIMIT_AS, (virtual_bytes(served.process.pid), resource.RLIM_INFINITY)
    )
    os.kill(served.worker(), signal.SIGKILL)
    failed = served.wait_for_event("worker failed", worker=0)
    assert "memory" in failed["why"]
    assert "exception" not in failed
    assert served.wait_for_event("worker died", worker=0, exit_code=1)
    check(predict(served).json(), pixels())
    resource.prlimit(served.process.pid, resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    until(lambda: len(served.events("worker up", worker=0)) == 2, "the worker back")
    assert all(json.loads(line) for line in served.lines)
    assert served.stop() == 0


def virtual_bytes(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[0]) * resource.getpagesize()


# API processes


def test_an_api_process_that_cannot_start_its_decoding_threads_says_so_and_is_replaced(
    pids_group: PidsGroup, serve: Servers
) -> None:
    served = serve("--workers", "1", "--api-processes", "1", "--decode-threads", "8").ready()
    pids_group.bound(served, "max")
    (api,) = served.api_processes()
    threads = sum(1 for _ in Path(f"/proc/{api}/task").iterdir())
    assert threads > 8, "they are not started at once"
    pids_group.bound(served, pids_group.size - 4)
    os.kill(api, signal.SIGKILL)
    failed = served.wait_for_event("API process failed")
    assert "threads for decode (8) cannot be started: allow more processes, or fewer --decode-threads" in failed["why"]
    assert "exception" not in failed
    pids_group.bound(served, "max")
    until(lambda: served.status("/readyz") == 200, "its successor")
    check(predict(served).json(), pixels())
    assert served.stop() == 0


def test_an_api_process_that_stands_still_is_replaced_and_what_it_held_is_counted_as_lost(serve: Servers) -> None:
    served = serve("--workers", "1", "--api-processes", "1").ready()
    (api,) = served.api_processes()
    with ThreadPoolExecutor(1) as pool, served.stopped_workers():
        answer = pool.submit(predict, served)
        until(lambda: served.metrics()[INFLIGHT] == 1, "the request")
        os.kill(api, signal.SIGSTOP)
        with pytest.raises(httpx.TransportError):
            answer.result()
    served.wait_for_event("API process hangs", pid=api)
    assert served.wait_for_event("API process died", reason="hang")["requests_lost"] == 1
    until(lambda: served.status("/readyz") == 200, "its successor")
    samples = served.metrics()
    assert (samples[API_HANGS], samples[LOST], samples[INFLIGHT]) == (1, 1, 0)
    check(predict(served).json(), pixels())
    assert served.stop() == 0


def test_event_loops_that_spin_or_are_blocked_are_replaced(serve: Servers) -> None:
    served = serve("--workers", "1", "--api-processes", str(len(WAYS)), module="tests.faults.stuck_server").ready()
    stuck = served.api_processes()
    assert len(stuck) == len(WAYS)
    with ThreadPoolExecutor(len(WAYS)) as pool:
        answers = []
        for way in WAYS:  # one after the other: who stands still takes no new connection
            answers.append(pool.submit(httpx.get, f"{served.url}/models/{way}", timeout=DEADLINE_S))
            served.wait_for_event("stands still", way=way)
        assert [type(answer.exception()) for answer in answers] == [httpx.RemoteProtocolError] * len(WAYS)
    until(lambda: {event["pid"] for event in served.events("API process hangs")} == {*stuck}, "the log's lines")
    until(lambda: len(served.api_processes()) == len(WAYS) and served.status("/readyz") == 200, "their successors")
    assert served.metrics()[API_HANGS] == len(WAYS)
    check(predict(served).json(), pixels())
    assert served.stop() == 0


def test_a_drain_in_which_a_process_had_to_be_killed_is_no_success(serve: Servers) -> None:
    served = serve("--workers", "1", "--api-processes", "1", "--grace", "2").ready()
    os.kill(served.api_processes()[0], signal.SIGSTOP)
    assert served.stop() == 1
    assert served.events("stopped", exit_code=1)


# Writes that fail


def test_a_pipe_that_the_kernel_has_no_memory_for_ends_nothing(
    require: Callable[[str], str], serve: Servers, tmp_path: Path
) -> None:
    served = serve("--workers", "1").ready()
    with failing(require("strace"), served.process.pid, "write:error=ENOMEM", tmp_path / "trace") as count:
        until(lambda: count() > 1 or served.process.poll() is not None, "writes that fail")
    check(predict(served).json(), pixels())
    assert served.stop() == 0, served.log


def test_a_signal_that_the_kernel_has_no_memory_to_tell_of_stops_the_server(
    require: Callable[[str], str], serve: Servers, tmp_path: Path
) -> None:
    served = serve("--workers", "1").ready()
    served.signal(signal.SIGSTOP)  # so that it writes nothing else first
    with failing(require("strace"), served.process.pid, "write:error=ENOBUFS:when=1", tmp_path / "trace") as count:
        served.signal(signal.SIGTERM)
        served.signal(signal.SIGCONT)
        assert served.wait() == 0, served.log
        assert count() == 1


def test_models_larger_than_a_file_may_be_are_refused_with_what_limits_it(tmp_path: Path) -> None:
    make_artifact(tmp_path, "digits")
    with Served("--model-repository", tmp_path, "--workers", "1") as served:
        pid, (_, hard) = served.ready().process.pid, resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (4096, hard))
        make_artifact(tmp_path, "digits", version=2)
        served.signal(signal.SIGHUP)
        assert "(File too large): see `ulimit -f`" in served.wait_for_event("change refused")["reason"]
        check(predict(served).json(), pixels())
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (hard, hard))
        served.signal(signal.SIGHUP)
        assert served.wait_for_event("models changed")["loaded"] == ["digits/2"]
        assert served.stop() == 0
    assert "Traceback" not in served.log


def test_a_server_that_may_not_share_its_models_says_what_limits_it(tmp_path: Path) -> None:
    make_artifact(tmp_path, "digits", ballast_bytes=60 << 20)
    within = ("sh", "-c", 'ulimit -f 60000; exec "$@"', "sh")
    with Served("--model-repository", tmp_path, "--workers", "1", "--queue-capacity", "64", within=within) as served:
        assert "memory to share cannot be had (File too large): see `ulimit -f`" in served.refusal()


# Signals that others send


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=lambda number: number.name)
def test_a_signal_to_every_process_loses_no_request(serve: Servers, number: int) -> None:
    served = serve("--workers", "2", "--api-processes", "2").ready()
    with load(served) as ledger:
        os.killpg(served.process.pid, number)
        assert served.wait() == 0, served.log
    assert set(ledger.summary()) <= {(200, ""), (0, "refused")}
    assert not served.events("worker died")


def test_a_signal_that_comes_twice_at_once_loses_no_request(serve: Servers) -> None:
    """As `timeout` sends it: to the server, then to its group."""
    served = serve("--workers", "1", "--grace", "300", module="tests.faults.patient_server").ready()
    with ThreadPoolExecutor(1) as pool, served.stopped_workers():
        answer = pool.submit(predict, served)
        until(lambda: served.metrics()[INFLIGHT] == 1, "the request")
        served.signal(signal.SIGTERM)
        served.wait_for_event("stopping")
        os.killpg(served.process.pid, signal.SIGTERM)
    check(answer.result().json(), pixels())
    assert served.wait() == 0, served.log


def test_no_signal_ends_a_process_that_the_supervisor_should_end(serve: Servers) -> None:
    served = serve("--workers", "1", "--api-processes", "1")
    served.wait_for_event("worker started")
    served.wait_for_event("API process started")
    for pid in (served.worker(), *(event["pid"] for event in served.events("API process started"))):
        for number in STOPS:
            os.kill(pid, number)  # within its first instructions
    served.ready()
    assert not served.events(level="error"), served.log
    check(predict(served).json(), pixels())
    assert served.stop() == 0


@pytest.mark.parametrize("signals", [(signal.SIGQUIT,), (signal.SIGINT, signal.SIGTERM)], ids=["SIGQUIT", "two"])
def test_a_stop_at_once_tells_how_many_requests_it_lost(serve: Servers, signals: tuple[int, ...]) -> None:
    served = serve("--workers", "1", "--grace", "300").ready()
    with ThreadPoolExecutor(1) as pool, served.stopped_workers():
        answer = pool.submit(predict, served)
        until(lambda: served.metrics()[INFLIGHT] == 1, "the request")
        for number in signals:
            served.signal(number)
            until(partial(served.events, signal=signal.Signals(number).name), "the signal to be read")
        assert served.wait() == 1
        with pytest.raises(httpx.TransportError):
            answer.result()
    assert served.events("stopping at once")
    assert served.events("stopped", requests_lost=1)


def test_a_hang_up_that_comes_beside_another_signal_adds_nothing(serve: Servers) -> None:
    """systemd sends both with SendSIGHUP=yes."""
    served = serve("--workers", "1", "--grace", "60").ready()
    with ThreadPoolExecutor(1) as pool, served.stopped_workers():
        answer = pool.submit(predict, served)
        until(lambda: served.metrics()[INFLIGHT] == 1, "the request")
        served.signal(signal.SIGTERM)
        served.signal(signal.SIGHUP)
        served.wait_for_event("stopping")
    check(answer.result().json(), pixels())
    assert served.wait() == 0


@pytest.mark.parametrize("within", [(), ("nohup",)], ids=["", "nohup"])
def test_a_hang_up_stops_nothing(serve: Servers, within: tuple[str, ...]) -> None:
    """Also one that a terminal sends to every process."""
    served = serve("--workers", "1", within=within)
    served.wait_for_event("listening")
    served.signal(signal.SIGHUP)
    served.ready()
    os.killpg(served.process.pid, signal.SIGHUP)
    served.wait_for_event("reloading")
    check(predict(served).json(), pixels())
    assert served.stop() == 0
    assert [event["signal"] for event in served.events("stopping")] == ["SIGTERM"]
