"""From start to exit: signals, what stays behind, and starts that cannot succeed."""

import os
import resource
import signal
import socket
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from service.policy import API_DESCRIPTORS, LEAST_DESCRIPTORS, WORKER_DESCRIPTORS
from tests.artifacts import make_artifact, make_slow_starter
from tests.service.pictures import check, pixels, png
from tests.service.served import DEADLINE_S, POLL_S, Served, Servers, cpu_s, is_listening, until
from tests.service.wire import Wire, get

WATCHED_S = 2.0


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository with one model."""
    path = tmp_path_factory.mktemp("small")
    make_artifact(path, "plain")
    return path


def start(serve: Servers, repository: Path, *flags: str, port: int = 0) -> Served:
    return serve("--model-repository", repository, "--workers", "1", *flags, port=port)


def predict(served: Served, seed: int = 0) -> httpx.Response:
    return httpx.post(served.url + "/predict", content=png(seed), timeout=DEADLINE_S)


def shared_memory() -> set[str]:
    return {path.name for path in Path("/dev/shm").iterdir()}


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=["SIGTERM", "Ctrl-C"])
def test_a_stop_answers_what_was_accepted_and_leaves_nothing(serve: Servers, small: Path, number: int) -> None:
    before = shared_memory()
    served = start(serve, small, "--grace", "60").ready()
    processes = served.processes()
    with ThreadPoolExecutor(1) as pool, served.stopped_workers():
        answer = pool.submit(predict, served)
        until(lambda: served.metrics()["resnet_inflight_requests"] == 1, "the request")
        if number == signal.SIGINT:
            os.killpg(served.process.pid, number)  # a terminal sends it to all
        else:
            served.signal(number)
        served.wait_for_event("stopping", signal=signal.Signals(number).name)
        until(lambda: served.status("/readyz") != 200, "the API process to hear of it")
    check(answer.result().json(), pixels())
    assert answer.result().headers["connection"] == "close"
    assert served.wait() == 0, served.log
    assert len(processes) > 2
    until(lambda: not served.processes(), "its last process to go")
    assert not is_listening(served.address)
    until(lambda: shared_memory() <= before, "its shared memory to go, and what tests beside this one have")
    assert not served.events(level="error"), served.log

    again = start(serve, small, port=served.address[1]).ready()
    assert again.address == served.address
    check(predict(again).json(), pixels())
    assert again.stop() == 0


def test_idle_connections_do_not_hold_up_a_stop(serve: Servers, small: Path) -> None:
    served = start(serve, small, "--grace", "300").ready()
    with Wire(served.address) as fresh, Wire(served.address) as idle, Wire(served.address) as half:
        idle.send(get("/livez"))
        assert idle.answer().status == 200
        half.send(b"POST /predict HT")
        assert served.stop() == 0
        assert fresh.ended()
        assert idle.ended()
        assert half.ended()


def test_what_is_not_done_at_the_end_of_the_grace_period_is_refused(serve: Servers, small: Path) -> None:
    served = start(serve, small, "--grace", "2").ready()
    with ThreadPoolExecutor(1) as pool, served.stopped_workers():
        answer = pool.submit(predict, served)
        until(lambda: served.metrics()["resnet_inflight_requests"] == 1, "the request")
        assert served.stop() == 1
        assert (answer.result().status_code, answer.result().json()["reason"]) == (503, "draining")
        served.kill()


def test_a_second_signal_stops_at_once(serve: Servers, small: Path) -> None:
    served = start(serve, small, "--grace", "300").ready()
    with Wire(served.address) as wire, served.stopped_workers():
        wire.send(b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(png()) + png())
        until(lambda: served.metrics()["resnet_inflight_requests"] == 1, "the request")
        served.signal(signal.SIGTERM)
        served.wait_for_event("stopping")
        while not served.events("stopping at once"):
            served.signal(signal.SIGTERM)
            time.sleep(POLL_S)
        assert served.wait() == 1, served.log  # what was accepted is lost
        assert wire.ended()
        until(lambda: not served.processes(), "its last process to go")


INHERITED = """
import os, signal, sys
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
os.execvp(sys.argv[1], sys.argv[1:])
"""


def test_a_parent_that_blocks_and_ignores_signals_changes_nothing(serve: Servers, small: Path) -> None:
    served = serve("--model-repository", small, "--workers", "1", within=(sys.executable, "-c", INHERITED)).ready()
    os.kill(served.worker(), signal.SIGKILL)
    served.wait_for_event("worker died", exit_code=-signal.SIGKILL)
    until(lambda: len(served.events("worker up")) == 2, "another worker")
    served.signal(signal.SIGHUP)
    served.wait_for_event("models are read")
    assert served.stop() == 0, served.log


def test_a_stop_during_start_is_a_stop(serve: Servers, tmp_path: Path) -> None:
    make_slow_starter(tmp_path, "slow")
    served = start(serve, tmp_path)
    served.wait_for_event("worker started")
    assert served.stop() == 0, served.log
    assert not served.events("worker up")
    until(lambda: not served.processes(), "its last process to go")


def test_no_process_outlives_a_killed_supervisor(serve: Servers, small: Path) -> None:
    served = start(serve, small).ready()
    served.signal(signal.SIGKILL)
    assert served.wait() == -signal.SIGKILL
    until(lambda: not served.processes(), "its children to end")
    assert not is_listening(served.address)


def test_a_killed_worker_is_replaced_and_its_request_answered(serve: Servers, small: Path) -> None:
    served = start(serve, small).ready()
    killed = served.worker()
    with ThreadPoolExecutor(1) as pool:
        with served.stopped_workers():
            answer = pool.submit(predict, served)
            until(lambda: served.metrics()["resnet_inflight_requests"] == 1, "the request")
            os.kill(killed, signal.SIGKILL)
            served.wait_for_event("worker died", exit_code=-signal.SIGKILL)
        check(answer.result().json(), pixels())
    assert served.worker() != killed
    assert served.metrics()['resnet_worker_restarts_total{reason="exit"}'] == 1
    assert served.stop() == 0


def test_a_server_without_work_rests(server: Served) -> None:
    """None of its processes spins: one that does runs all the time, or half of it beside another program."""
    before = {pid: cpu_s(pid) for pid in server.processes()}
    time.sleep(WATCHED_S)  # what is measured
    assert len(before) > 2
    assert max(cpu_s(pid) - spent for pid, spent in before.items()) < 0.2 * WATCHED_S


def test_an_ipv6_address_can_be_served(serve: Servers, small: Path) -> None:
    if not socket.has_ipv6:
        pytest.skip("no IPv6 here")
    served = start(serve, small, "--host", "::1")
    assert served.url.startswith("http://[::1]:")
    check(predict(served.ready()).json(), pixels())


def test_every_interface_of_ipv6_is_every_one_of_ipv4_too(serve: Servers, small: Path) -> None:
    if not socket.has_dualstack_ipv6():
        pytest.skip("no IPv6 here")
    served = start(serve, small, "--host", "::", "--access-log", "all").ready()
    for host in ("127.0.0.1", "[::1]"):
        with httpx.Client(base_url=f"http://{host}:{served.address[1]}", timeout=DEADLINE_S) as client:
            check(client.post("/predict", content=png()).json(), pixels())
    for address in ("127.0.0.1:", "[::1]:"):  # and not [::ffff:127.0.0.1]
        until(lambda start=address: any(e["client"].startswith(start) for e in served.events("request")), address)


# Starts that cannot succeed


def test_the_hard_limit_bounds_its_connections_and_not_the_soft_one(serve: Servers, small: Path) -> None:
    within = ("sh", "-c", 'ulimit -S -n 256 && ulimit -H -n 512 && exec "$@"', "sh")
    served = serve("--model-repository", small, "--workers", "1", within=within).ready()
    assert {resource.prlimit(pid, resource.RLIMIT_NOFILE) for pid in served.processes()} == {(512, 512)}


def test_too_few_descriptors_are_told_and_enough_are_enough(serve: Servers, small: Path) -> None:
    flags = ("--model-repository", small, "--workers", "3", "--api-processes", "2")
    least = LEAST_DESCRIPTORS + 3 * WORKER_DESCRIPTORS + 2 * API_DESCRIPTORS
    served = serve(*flags, within=("prlimit", f"--nofile={least}"))
    assert served.wait() == 2
    expected = f"may have {least} files open, and with 3 workers and 2 API processes needs more than {least}: raise"
    assert expected in served.log
    served = serve(*flags, within=("prlimit", f"--nofile={least + 16}")).ready()
    check(predict(served).json(), pixels())
    most = max(len(os.listdir(f"/proc/{pid}/fd")) for pid in served.api_processes())  # noqa: PTH208
    assert least - 4 < most <= least + 8, "the bound is another than what a process has open"
    assert served.stop() == 0


LITTLE_MEMORY = ("prlimit", f"--as={1 << 30}")


def test_a_small_model_is_served_in_little_address_space(serve: Servers, small: Path) -> None:
    flags = ("--device", "cpu", "--workers", "1", "--decode-threads", "1")
    served = serve("--model-repository", small, *flags, within=LITTLE_MEMORY).ready()
    check(predict(served).json(), pixels())


def test_a_file_that_memory_is_too_little_for_is_a_clear_error(serve: Servers, tmp_path: Path) -> None:
    folder = make_artifact(tmp_path, "plain")
    os.truncate(folder / "model.onnx", (1 << 31) - 1)
    served = serve("--model-repository", tmp_path, within=LITTLE_MEMORY)
    assert served.wait() == 2, served.log
    assert "not enough memory" in str(served.events("not started")), served.log


def test_a_limit_of_files_that_shared_memory_falls_under_is_named(serve: Servers, small: Path) -> None:
    served = serve("--model-repository", small, within=("prlimit", "--fsize=0"))
    assert "`ulimit -f`" in served.refusal()


def test_a_taken_port_is_a_clear_error(serve: Servers, small: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        log = start(serve, small, port=port).refusal()
    assert f"127.0.0.1:{port}" in log
    assert "Address already in use" in log
    assert "--port" in log


@pytest.mark.parametrize(
    ("default", "why"),
    [
        ("damaged", "SHA-256"),
        ("wrong", "golden example"),
        ("zebra", "colour, damaged, faulty, plain, wrong"),
        (None, "--default-model"),
    ],
)
def test_a_default_model_that_cannot_be_served_is_an_error(
    serve: Servers, repository: Path, default: str | None, why: str
) -> None:
    assert why in start(serve, repository, *(["--default-model", default] if default else [])).refusal()


def test_a_repository_without_models_is_an_error(serve: Servers, tmp_path: Path) -> None:
    empty, missing = serve("--model-repository", tmp_path), serve("--model-repository", tmp_path / "missing")
    assert str(tmp_path) in empty.refusal()
    assert str(tmp_path / "missing") in missing.refusal()


def test_a_gpu_that_is_not_there_is_an_error(serve: Servers, small: Path) -> None:
    served = serve("--model-repository", small, "--device", "cuda", CUDA_VISIBLE_DEVICES="")
    assert "--device cpu" in served.refusal()


def test_only_one_model_needs_no_default(serve: Servers, small: Path) -> None:
    served = start(serve, small).ready()
    assert predict(served).json()["model"] == "plain"
