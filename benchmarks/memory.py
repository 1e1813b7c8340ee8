"""The least memory in which each shipped model is served: a control group with less and less of it.

    python -m benchmarks.memory

A server counts as working under a limit if it becomes ready, answers digits and photographs from eight clients at
once, and no process of it ends. Limits are tried in steps of 16 MiB. It needs a control group that may be written to.
"""

import argparse
import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
from rich.console import Console
from rich.table import Table

from benchmarks.compiled import python_path
from benchmarks.result_file import write_result
from benchmarks.serving.photo import photo_jpeg
from benchmarks.surroundings import ROOT, serving_surroundings
from service.catalog.repository import ZOO

STEP_MIB, MOST_MIB = 16, 1024
READY_S, END_S = 60.0, 20.0
ASKED, CLIENTS = 64, 8
WORKERS = (1, 2, 4)  # of the server of all models; those of one model have one
DIGIT = (ROOT / "docs" / "seven.png").read_bytes()


class MemoryGroup:
    """A control group with so much memory, which its first process joins by itself."""

    def __init__(self, mib: int) -> None:
        first = Path("/sys/fs/cgroup/memory")
        mount, limit = (first, "memory.limit_in_bytes") if first.is_dir() else (first.parent, "memory.max")
        self.folder = mount / f"resnet-serve-memory-{os.getpid()}"
        self.folder.mkdir()
        (self.folder / limit).write_text(str(mib << 20))

    def command(self, *words: str) -> list[str]:
        """The command, run inside."""
        return ["sh", "-c", f'echo $$ > {self.folder}/cgroup.procs; exec "$@"', "sh", *words]

    def close(self) -> None:
        """Kill what is left in the group, and remove it."""
        end = time.monotonic() + END_S
        while pids := (self.folder / "cgroup.procs").read_text().split():
            if time.monotonic() > end:
                raise TimeoutError(f"processes {', '.join(pids)} do not end")
            for pid in pids:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(int(pid), signal.SIGKILL)
            time.sleep(0.05)
        self.folder.rmdir()


def works(repository: Path, mib: int, workers: int) -> bool:
    """Whether the models of a repository are served in so much memory."""
    group = MemoryGroup(mib)
    flags = ("--model-repository", str(repository), "--port", "0", "--log-format", "json", "--workers", str(workers))
    default = ("--default-model", sorted(path.name for path in repository.iterdir())[0])
    command = group.command(sys.executable, "-P", "-m", "service", *flags, *default)
    settings = os.environ | {"PYTHONPATH": python_path(ROOT)}
    process = subprocess.Popen(command, cwd=ROOT, env=settings, stderr=subprocess.PIPE, text=True)
    try:
        return _answers(process)
    finally:
        process.terminate()
        process.communicate()
        group.close()


def _answers(process: "subprocess.Popen[str]") -> bool:
    assert process.stderr is not None
    url = ""
    for line in process.stderr:
        event = json.loads(line) if line.startswith("{") else {}
        url = event.get("url", url)
        if event.get("event") in ("worker died", "giving up", "API process died"):
            return False
        if event.get("event") == "worker up":
            break
    bodies = [DIGIT, photo_jpeg()] * (ASKED // 2)
    try:
        with httpx.Client(base_url=url, timeout=READY_S) as client, ThreadPoolExecutor(CLIENTS) as pool:
            statuses = set(pool.map(lambda body: client.post("/predict", content=body).status_code, bodies))
            restarts = sum(
                float(row.split()[-1])
                for row in client.get("/metrics").text.splitlines()
                if row.startswith("resnet_worker_restarts")
            )
    except httpx.HTTPError:
        return False
    return statuses == {200} and not restarts


def least_mib(repository: Path, workers: int = 1) -> int:
    """The smallest limit that works, by bisection."""
    low, high = 1, MOST_MIB // STEP_MIB
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if works(repository, middle * STEP_MIB, workers) else (middle + 1, high)
    return low * STEP_MIB


def main() -> None:
    """Measure each shipped model alone and all together, and write the result."""
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    least: dict[str, int] = {}
    console = Console()
    with tempfile.TemporaryDirectory() as folder:
        for model in sorted(ZOO.iterdir()):
            alone = Path(folder) / model.name
            shutil.copytree(model, alone / model.name)
            least[model.name] = least_mib(alone)
            console.print(f"{model.name}: {least[model.name]} MiB")
    for workers in WORKERS:
        least[f"all of them, {workers} workers"] = least_mib(ZOO, workers)
    table = Table("models", "least memory, MiB")
    for name, mib in least.items():
        table.add_row(name, str(mib))
    console.print(table)
    document = {**serving_surroundings("benchmarks.memory"), "least_mib": least}
    write_result("memory", document)


if __name__ == "__main__":
    main()
