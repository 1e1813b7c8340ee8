"""How each server is started, and how it is asked."""

import contextlib
import http.client
import json
import os
import socket
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from benchmarks.serving.jobs import Job, Request
from benchmarks.serving.processes import Session, running

ROOT = Path(__file__).resolve().parents[2]
START_S = 60.0
ASK_AGAIN_S = 0.005
_PEERS = "benchmarks.serving.peers"


class ServerError(Exception):
    """A server did not start, or answers wrongly; the message holds the end of its log."""


class NotReadyError(ServerError):
    """A server says that it cannot serve yet."""


@dataclass(frozen=True, slots=True)
class Server:
    """One way of doing the job: the module and arguments that start it, and the form of its requests."""

    name: str
    module: str
    arguments: tuple[str, ...]
    path: str
    request: Callable[[Job], Request]
    environment: tuple[tuple[str, str], ...] = ()


def _ours(name: str, *arguments: str) -> Server:
    return Server(name, "service", arguments, "/predict", Job.raw)


def _litserve(name: str, *arguments: str) -> Server:
    return Server(name, f"{_PEERS}.stock_litserve", arguments, "/predict", Job.multipart)


def _mosec(batch: int) -> Server:
    arguments = ("--address", "127.0.0.1", "--log-level", "warning")
    environment = (("PEER_BATCH", str(batch)),)
    return Server(f"mosec-{batch}", f"{_PEERS}.mosec_app", arguments, "/inference", Job.raw, environment)


SERVERS = {
    server.name: server
    for server in (
        _ours("ours"),
        _ours("ours-1worker", "--workers", "1"),
        _ours("ours-4workers", "--workers", "4"),
        _ours("ours-2api", "--api-processes", "2"),
        _ours("ours-4api", "--api-processes", "4"),
        _litserve("litserve"),
        _litserve("litserve-tuned", "--workers", "2", "--api-servers", "2"),
        _mosec(8),
        _mosec(32),
    )
}


@dataclass(frozen=True, slots=True)
class Running:
    """A server that answers."""

    server: Server
    job: Job
    port: int
    session: Session
    cold_start_s: float
    """From the start of its first process to its first 200."""

    @property
    def url(self) -> str:
        """Where the job is done."""
        return f"http://127.0.0.1:{self.port}{_path(self.server, self.job)}"

    def get(self, path: str) -> str:
        """The body of a GET."""
        status, body = _exchange(self.port, "GET", path)
        if status != 200:
            raise ServerError(f"{self.server.name}: GET {path}: {status} {body[:300]!r}")
        return body.decode()


@contextlib.contextmanager
def started(server: Server, job: Job, folder: Path) -> Iterator[Running]:
    """Start a server for a job and wait for its first right answer; `folder` takes its log."""
    port, log = free_port(), folder / f"{server.name}.log"
    command = [sys.executable, "-m", server.module, "--port", str(port), *server.arguments]
    if server.module == "service":
        command += ["--model-repository", str(job.repository), "--default-model", job.artifact.name]
    began = time.perf_counter()
    with running(command, _environment(server, job), ROOT, log) as session:
        _await_answer(server, job, port, began + START_S, session, log)
        yield Running(server, job, port, session, time.perf_counter() - began)


def top_label(server: Server, job: Job, port: int) -> str:
    """The best class that a server answers; OSError or HTTPException while it does not listen."""
    request = server.request(job)
    status, body = _exchange(port, "POST", _path(server, job), request)
    if status == 503:
        raise NotReadyError(body.decode())
    if status != 200:
        raise ServerError(f"{server.name} answers {status}: {body[:500]!r}")
    predictions = json.loads(body)["predictions"]
    if len(predictions) != job.top_k:
        raise ServerError(f"{server.name} answers {len(predictions)} classes instead of {job.top_k}")
    label: str = predictions[0]["label"]
    return label


def free_port() -> int:
    """A port of 127.0.0.1 that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _await_answer(server: Server, job: Job, port: int, until: float, session: Session, log: Path) -> None:
    why: Exception | None = None
    while time.perf_counter() < until and session.pids():
        try:
            top_label(server, job, port)
        except (OSError, http.client.HTTPException, NotReadyError) as error:
            why = error
            time.sleep(ASK_AGAIN_S)
        else:
            return
    tail = log.read_text(errors="replace")[-3000:]
    raise ServerError(f"{server.name} did not start: {why}\n{tail}")


def _exchange(port: int, method: str, path: str, request: Request | None = None) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=START_S)
    try:
        headers = {"Content-Type": request.content_type} if request else {}
        connection.request(method, path, request.body if request else None, headers)
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()


def _path(server: Server, job: Job) -> str:
    return f"{server.path}?top_k={job.top_k}" if server.module == "service" else server.path


def _environment(server: Server, job: Job) -> dict[str, str]:
    if server.module == "service":
        return {}
    return {
        "PEER_MODEL": str(job.model_file),
        "PEER_LABELS": json.dumps(job.artifact.labels),
        "PEER_TOP_K": str(job.top_k),
        **dict(server.environment),
    }


def usable_cores() -> int:
    """Cores that this program and the servers share."""
    return len(os.sched_getaffinity(0))
