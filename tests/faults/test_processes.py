"""What clients and the machine see when the server's other processes are killed, stopped or starved."""

import os
import resource
import shutil
import signal
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from itertools import pairwise
from pathlib import Path

import httpx
import pytest

from tests.faults.capacity import ANSWERED
from tests.faults.ledger import CONNECTIONS, load
from tests.service.pictures import png
from tests.service.served import DEADLINE_S, Served, Servers, process_name, until
from tests.service.wire import Wire, get, post


@pytest.mark.parametrize("processes", [1, 2])
def test_a_killed_api_process_closes_its_connections_and_is_replaced(serve: Servers, processes: int) -> None:
    served = serve("--workers", "1", "--api-processes", str(processes)).ready()
    with load(served) as ledger:
        ledger.wait_for(200)
        before = served.metrics()[ANSWERED]
        victim = served.api_processes()[0]
        os.kill(victim, signal.SIGKILL)
        until(
            lambda: len(served.api_processes()) == processes and victim not in served.api_processes(), "its successor"
        )
        ledger.wait_for(50)
        assert served.metrics()[ANSWERED] >= before
    # Its own connections are cut; while its successor waits for the workers it says that it loads.
    assert set(ledger.summary()) <= {(200, ""), (0, "cut"), (503, "unavailable")}
    assert ledger.count(0) <= CONNECTIONS, "more connections were cut than there were"


def test_a_killed_api_process_leaves_slots_that_are_safe_to_use(serve: Servers) -> None:
    served = serve("--workers", "2", "--queue-capacity", "16").ready()
    for _ in range(3):
        with load(served) as ledger:  # which checks that every answer belongs to its picture
            os.kill(served.api_processes()[0], signal.SIGKILL)
            ledger.wait_for(50)  # its successor's answers


def test_no_other_process_is_needed(serve: Servers) -> None:
    """Neither LitServe's Manager is there nor Python's resource tracker."""
    served = serve("--workers", "2", "--api-processes", "2").ready()
    others = set(served.processes()) - {served.process.pid}
    until(lambda: len(served.events("worker up")) == 2, "both workers")
    assert sorted(map(process_name, others)) == ["api-0", "api-1", "worker-0", "worker-1"]
    assert served.stop() == 0, served.log


def test_nothing_outlives_a_killed_parent(serve: Servers) -> None:
    served = serve("--workers", "2", "--api-processes", "2").ready()
    address = served.address
    served.signal(signal.SIGKILL)
    assert served.wait() == -signal.SIGKILL
    until(lambda: not served.processes(), "the children's end")
    with socket.create_server(address):
        pass


@pytest.mark.parametrize("delay", ["0", "0.5"])
@pytest.mark.parametrize("processes", ["1", "2"])
def test_sigterm_under_load_loses_no_request(serve: Servers, delay: str, processes: str) -> None:
    served = serve("--workers", "1", "--api-processes", processes, "--drain-delay", delay).ready()
    with load(served) as ledger:
        served.signal(signal.SIGTERM)
        assert served.wait() == 0
    assert set(ledger.summary()) <= {
        (200, ""),
        (0, "refused"),
    }  # those that come after the end


@pytest.mark.parametrize("event", ["listening", "worker started", "model ready"])
def test_sigterm_while_starting_ends_everything(serve: Servers, event: str) -> None:
    served = serve("--workers", "1")
    served.wait_for_event(event)
    assert served.stop() == 0
    until(lambda: not served.processes(), "its last process to go")


def test_a_first_process_of_a_container_loses_no_request_at_sigterm(serve: Servers) -> None:
    """The kernel gives a PID namespace's first process no default action for a signal."""
    served = serve("--workers", "1", within=unshare("--pid", "--fork", "--mount-proc")).ready()
    outer = served.process.pid
    (inner,) = Path(f"/proc/{outer}/task/{outer}/children").read_text().split()
    with load(served) as ledger:
        os.kill(int(inner), signal.SIGTERM)
        assert served.wait() == 0, served.log
    assert set(ledger.summary()) <= {(200, ""), (0, "refused")}


@contextmanager
def crowd_beyond_its_descriptors(served: Served, message: bytes) -> Iterator[None]:
    """More clients, each of which has sent this, than the API process has descriptors for."""
    (api,) = served.api_processes()
    open_now = len(os.listdir(f"/proc/{api}/fd"))  # noqa: PTH208
    _, hard = resource.prlimit(api, resource.RLIMIT_NOFILE)
    resource.prlimit(api, resource.RLIMIT_NOFILE, (open_now + 4, hard))
    with ExitStack() as stack:
        for _ in range(12):
            stack.enter_context(socket.create_connection(served.address)).sendall(message)
        served.wait_for_event("no new connections")
        yield
    resource.prlimit(api, resource.RLIMIT_NOFILE, (hard, hard))


def test_file_descriptors_that_run_out_cost_new_connections_only(serve: Servers) -> None:
    served = serve("--workers", "1", "--api-processes", "1", "--header-timeout", "100").ready()
    page = "/docs/swagger-ui.css"  # a file that is read when it is asked for
    questions = [*map(get, ("/metrics", "/v2", "/models", "/docs", page)), post(png())]
    with Wire(served.address) as known:
        known.send(questions[0][:1])
        with crowd_beyond_its_descriptors(served, b"GET /livez HTTP/1.1\r\n"):
            statuses = []
            for question, following in pairwise([*questions, b""]):
                known.send(question[1:] + following[:1])  # it is never idle
                statuses.append(known.answer().status)
            assert statuses == [200, 200, 200, 200, 500, 200]
            assert "Too many open files" in served.wait_for_event("request failed")["detail"]
            assert "Traceback" not in served.log
    until(lambda: served.status("/livez") == 200, "new connections")


def test_idle_connections_make_room_for_new_ones_where_descriptors_run_out(serve: Servers) -> None:
    """And those whose request is under way do not."""
    times = "--keep-alive-timeout", "3600", "--body-timeout", "100"
    served = serve("--workers", "1", "--api-processes", "1", *times).ready()
    question = post(png(), "/predict", "X-Request-Timeout-Ms: 60000")
    with Wire(served.address) as busy:
        busy.send(question[:-10])
        with crowd_beyond_its_descriptors(served, b""):
            assert httpx.get(served.url + "/livez", timeout=DEADLINE_S).status_code == 200
            assert any(event["closing_idle"] for event in served.events("no new connections"))
            busy.send(question[-10:])
            assert busy.answer().status == 200


def test_two_servers_of_one_machine_do_not_know_each_other(serve: Servers) -> None:
    first, second = serve("--workers", "1").ready(), serve("--workers", "1").ready()
    first.signal(signal.SIGKILL)
    assert first.wait() == -signal.SIGKILL
    assert httpx.post(second.url + "/predict", content=png(), timeout=DEADLINE_S).status_code == 200


@pytest.mark.parametrize(
    "mount",
    ["mount -o remount,ro,bind /", "mount -t tmpfs -o size=4k none /dev/shm", "mount -t tmpfs -o ro none /dev/shm"],
    ids=["read-only file system", "tiny shared memory", "read-only shared memory"],
)
def test_no_file_system_needs_to_be_writable(serve: Servers, mount: str) -> None:
    within = unshare("--mount", "sh", "-c", f'{mount} && exec "$@"', "sh")
    served = serve("--workers", "2", within=within).ready()
    with load(served):
        pass
    assert served.stop() == 0, served.log


def unshare(*options: str) -> tuple[str, ...]:
    """A command that runs another in namespaces of its own; skips the test where that is not allowed."""
    if os.geteuid() != 0 or not shutil.which("unshare"):
        pytest.skip("needs root and unshare for namespaces of its own")
    return "unshare", *options
