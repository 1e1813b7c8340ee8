"""`process_*`: of every process of the server, held against what the kernel tells of each."""

import os
import resource
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import prometheus_client
import pytest

from service.metrics.process_tree import ProcessTree
from tests.service.pictures import png
from tests.service.served import Servers, resident_bytes, until

TICK_S = 1 / os.sysconf("SC_CLK_TCK")
NAMES = {
    "process_cpu_seconds_total",
    "process_virtual_memory_bytes",
    "process_resident_memory_bytes",
    "process_start_time_seconds",
    "process_open_fds",
    "process_max_fds",
}


def samples(tree: ProcessTree) -> dict[str, float]:
    return {sample.name: sample.value for metric in tree.collect() for sample in metric.samples}


@contextmanager
def child(code: str) -> Iterator[subprocess.Popen[bytes]]:
    """A Python process that has done this, and waits."""
    command = [sys.executable, "-c", f"{code}\nprint(flush=True)\ninput()"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"\n"
        yield process


def work(seconds: float) -> str:
    return f"import time\nwhile time.process_time() < {seconds}: pass"


def test_one_process_is_as_prometheus_client_tells_it() -> None:
    with child("") as process:
        ours = samples(ProcessTree(process.pid))
        registry = prometheus_client.CollectorRegistry()
        prometheus_client.ProcessCollector(pid=lambda: process.pid, registry=registry)
        theirs = {sample.name: sample.value for metric in registry.collect() for sample in metric.samples}
    assert ours.keys() == theirs.keys() == NAMES
    difference = theirs["process_resident_memory_bytes"] - ours["process_resident_memory_bytes"]
    assert abs(difference) < 1 << 20  # the kernel counts pages of a running process in batches of some dozen
    assert ours | {"process_resident_memory_bytes": 0} == theirs | {"process_resident_memory_bytes": 0}


def test_children_and_theirs_count() -> None:
    nested = f"import subprocess, sys\nheld = [open('/dev/null') for _ in range(20)]\n{work(0.1)}\n"
    nested += f"inner = subprocess.Popen([sys.executable, '-c', {work(0.3) + chr(10) + 'input()'!r}])"
    with child(nested) as process:
        tree = ProcessTree(process.pid)
        until(lambda: samples(tree)["process_cpu_seconds_total"] >= 0.4 - 2 * TICK_S, "what both took")
        assert samples(tree)["process_open_fds"] >= 20 + 3 + 3
        assert samples(tree)["process_max_fds"] == resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        subprocess.run(["kill", *map(str, tree._pids())], check=True)


def test_memory_that_is_shared_counts_once() -> None:
    size = 64 << 20
    code = f"import mmap, os, sys\nshared = mmap.mmap(-1, {size})\nshared.write(bytes([1]) * {size})\n"
    code += "reader, writer = os.pipe()\nif not os.fork():\n shared[:]\n os.write(writer, b'x')\n"
    code += " sys.stdin.read()\n os._exit(0)\n"
    with child(code + "os.read(reader, 1)") as process:
        resident = samples(ProcessTree(process.pid))["process_resident_memory_bytes"]
        of_each = [resident_bytes(pid) for pid in ProcessTree(process.pid)._pids()]
    assert len(of_each) == 2
    assert min(of_each) > size
    assert max(of_each) <= resident < sum(of_each) - size + (1 << 20)


def test_the_time_of_a_process_that_has_ended_is_kept() -> None:
    code = f"import subprocess, sys\nsubprocess.run([sys.executable, '-c', {work(0.3)!r}])"
    with child(code) as process:
        assert samples(ProcessTree(process.pid))["process_cpu_seconds_total"] >= 0.3 - TICK_S


def test_a_process_that_is_gone_gives_nothing() -> None:
    with child("") as process:
        process.kill()
    assert samples(ProcessTree(process.pid)) == {}


def test_without_proc_there_is_nothing(tmp_path: Path) -> None:
    assert samples(ProcessTree(os.getpid(), tmp_path)) == {}


def write_stat(proc: Path, pid: int, cpu: int, waited_for: int, *children: int) -> None:
    """As proc(5) has it, in clock ticks."""
    folder = proc / str(pid) / "task" / str(pid)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "children").write_text("".join(f"{child} " for child in children))
    fields = ["S", *["0"] * 10, str(cpu), "0", str(waited_for), "0", *["0"] * 20]
    (proc / str(pid) / "stat").write_text(f"{pid} (a (name) of) {' '.join(fields)}\n")


def test_the_snapshot_is_taken_again_if_a_process_ends_meanwhile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else its time would count for it and for its parent, and the counter would fall at the next scrape."""
    (tmp_path / "stat").write_text("btime 1\n")
    write_stat(tmp_path, 1, 100, 0, 2, 3)
    write_stat(tmp_path, 2, 200, 0)
    write_stat(tmp_path, 3, 4000, 0)
    pids, looks = ProcessTree._pids, 0

    def pids_and_end(self: ProcessTree) -> Iterator[int]:
        nonlocal looks
        looks += 1
        yield from (found := list(pids(self)))[1:]
        if len(found) == 3:  # the parent's own figures are read after it has waited for the child
            shutil.rmtree(tmp_path / "3")
            write_stat(tmp_path, 1, 101, 4000, 2)
        yield 1

    monkeypatch.setattr(ProcessTree, "_pids", pids_and_end)
    assert samples(ProcessTree(1, tmp_path))["process_cpu_seconds_total"] == (101 + 4000 + 200) * TICK_S
    assert looks == 2


def test_a_process_that_ends_while_it_is_looked_at_costs_no_scrape(tmp_path: Path) -> None:
    (tmp_path / "stat").write_text("btime 1\n")
    write_stat(tmp_path, 1, 100, 0, 2)
    write_stat(tmp_path, 2, 200, 0)
    with child("") as ending:
        folder = os.open(f"/proc/{ending.pid}/task", os.O_RDONLY)
    shutil.rmtree(tmp_path / "2" / "task")
    (tmp_path / "2" / "task").symlink_to(f"/proc/self/fd/{folder}")  # is there, and cannot be listed any more
    assert samples(ProcessTree(1, tmp_path))["process_cpu_seconds_total"] == 300 * TICK_S
    os.close(folder)


def _cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) * TICK_S


def test_a_server_tells_of_all_its_processes_and_its_time_never_falls(serve: Servers, repository: Path) -> None:
    flags = ("--model-repository", repository, "--default-model", "plain", "--workers", "1", "--api-processes", "2")
    served = serve(*flags).ready()

    for _ in range(50):
        httpx.post(served.url + "/predict", content=png())
    least = sum(map(_cpu_s, served.processes()))
    metrics = served.metrics()
    open_fds = sum(len(list(Path(f"/proc/{pid}/fd").iterdir())) for pid in served.processes())
    assert metrics["process_open_fds"] == pytest.approx(open_fds, abs=4)
    before = metrics["process_cpu_seconds_total"]
    assert before >= least > _cpu_s(served.process.pid)
    worker = served.worker()
    os.kill(worker, signal.SIGKILL)
    until(lambda: worker not in served.processes(), "its death")
    assert served.metrics()["process_cpu_seconds_total"] >= before
    start = served.metrics()["process_start_time_seconds"]
    ticks = int(Path(f"/proc/{served.process.pid}/stat").read_text().rpartition(")")[2].split()[19])
    assert start == pytest.approx(_boot_time_s() + ticks * TICK_S, abs=1)


def _boot_time_s() -> int:
    return int(
        next(line for line in Path("/proc/stat").read_text().splitlines() if line.startswith("btime")).split()[1]
    )
