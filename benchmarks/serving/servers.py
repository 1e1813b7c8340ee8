"""How each server is started, and how it is asked."""

import contextlib
import http.client
import json
import socket
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from benchmarks.compiled import python_path
from benchmarks.serving.processes import Session, running_session
from benchmarks.serving.traffic import behind_nginx
from benchmarks.serving.workloads import Upload, Workload, multipart, raw
from benchmarks.surroundings import ROOT

START_S = 120.0  # LitServe with torch took more than 60 beside other work; one that has ended is told at once
NOT_NOW = (408, 503)  # mosec answers 408 when a request has waited too long
LOG_TAIL = 3000  # characters of a log that an error shows
ASK_AGAIN_S = 0.005
_PEERS = "benchmarks.serving.peers"


class ServerError(Exception):
    """A server did not start, or answers wrongly."""


class ToldError(ServerError):
    """One whose message holds the end of the server's log."""


class NotReadyError(ServerError):
    """A server says that it cannot serve now."""


@dataclass(frozen=True, slots=True)
class ServerSpec:
    """One way to serve a workload: the module and arguments that start it, and the form of its requests."""

    name: str
    module: str
    arguments: tuple[str, ...]
    path: str
    form: Callable[[bytes, str], Upload]
    """What makes an upload of an image and its media type."""
    environment: tuple[tuple[str, str], ...] = ()
    is_compiled: bool = True

    @property
    def is_ours(self) -> bool:
        """Whether it is the server of this project, with any settings."""
        return self.module == "service"

    def describe(self) -> str:
        """The command that starts it, but for the port and the model."""
        command = " ".join([*map("=".join, self.environment), "python -m", self.module, *self.arguments])
        return command if self.is_compiled else f"{command}, as it is in the sources"


def _ours(name: str, *arguments: str) -> ServerSpec:
    return ServerSpec(name, "service", arguments, "/predict", raw)


def _litserve(name: str, *arguments: str) -> ServerSpec:
    return ServerSpec(name, f"{_PEERS}.stock_litserve", arguments, "/predict", multipart)


def _mosec(batch: int, wait_ms: int = 2) -> ServerSpec:
    name = f"mosec-{batch}" if wait_ms else f"mosec-{batch}-nowait"
    arguments = ("--address", "127.0.0.1", "--log-level", "error")
    environment = (("PEER_BATCH", str(batch)), ("PEER_WAIT_MS", str(wait_ms)))
    return ServerSpec(name, f"{_PEERS}.mosec_app", arguments, "/inference", raw, environment)


SERVERS = {
    server.name: server
    for server in (
        _ours("ours"),
        ServerSpec("ours-multipart", "service", (), "/predict", multipart),
        replace(_ours("ours-sources"), is_compiled=False),
        _ours("ours-1worker", "--workers", "1"),
        _ours("ours-4workers", "--workers", "4"),
        _ours("ours-2api", "--api-processes", "2"),
        _ours("ours-4api", "--api-processes", "4"),
        _litserve("litserve"),
        _litserve("litserve-nowait", "--wait-ms", "0"),
        _litserve("litserve-tuned", "--workers", "2", "--api-servers", "2"),
        _mosec(8),
        _mosec(32),
        _mosec(8, wait_ms=0),
        _mosec(32, wait_ms=0),
    )
}


@dataclass(frozen=True, slots=True)
class Running:
    """A server that is up, with its workload."""

    server: ServerSpec
    workload: Workload
    port: int
    session: Session
    log: Path

    @contextlib.contextmanager
    def explained(self) -> Iterator[None]:
        """An OSError or ServerError within becomes a ToldError."""
        try:
            yield
        except ToldError:
            raise
        except (OSError, ServerError) as error:
            tail = self.log.read_text(errors="replace")[-LOG_TAIL:]
            raise ToldError(f"{self.server.name}: {error!r}; the end of its log:\n{tail}") from error

    @property
    def path(self) -> str:
        """Where images are classified, query included."""
        return f"{self.server.path}?top_k={self.workload.top_k}" if self.server.is_ours else self.server.path

    @property
    def url(self) -> str:
        """The path with host and port."""
        return f"http://127.0.0.1:{self.port}{self.path}"

    def upload(self) -> Upload:
        """The workload's image as this server takes it."""
        return self.server.form(self.workload.image, self.workload.media_type)

    def messages(self) -> list[bytes]:
        """The workload's traffic as this server takes it, as if through nginx: whole HTTP messages."""
        images = self.workload.traffic or (self.workload.image,)
        uploads = [self.server.form(image, self.workload.media_type) for image in images]
        return behind_nginx(uploads, self.path)

    def ask(self) -> str:
        """Classify the image once; the best class. NotReadyError, ServerError, OSError or HTTPException if it fails."""
        status, body = self._exchange("POST", self.path, self.upload())
        if status in NOT_NOW:
            raise NotReadyError(body.decode())
        if status != 200:
            raise ServerError(f"{self.server.name} answers {status}: {body[:500]!r}")
        predictions = json.loads(body)["predictions"]
        if len(predictions) != self.workload.top_k:
            raise ServerError(f"{self.server.name} answers {len(predictions)} classes instead of {self.workload.top_k}")
        label: str = predictions[0]["label"]
        return label

    def await_answer(self, seconds: float) -> str:
        """Ask until an answer comes, which is returned: the server starts, or has a queue from before; ServerError."""
        why: Exception | None = None
        until = time.perf_counter() + seconds
        while time.perf_counter() < until and self.session.pids():
            try:
                return self.ask()
            except (OSError, http.client.HTTPException, NotReadyError) as error:
                why = error
                time.sleep(ASK_AGAIN_S)
        raise ServerError(f"gives no answer: {why}")

    def get(self, path: str) -> str:
        """The body of a GET."""
        status, body = self._exchange("GET", path)
        if status != 200:
            raise ServerError(f"{self.server.name}: GET {path}: {status} {body[:300]!r}")
        return body.decode()

    def _exchange(self, method: str, path: str, request: Upload | None = None) -> tuple[int, bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=START_S)
        with contextlib.closing(connection):
            headers = {"Content-Type": request.content_type} if request else {}
            connection.request(method, path, request.body if request else None, headers)
            response = connection.getresponse()
            return response.status, response.read()


@contextlib.contextmanager
def started(server: ServerSpec, workload: Workload, folder: Path) -> Iterator[tuple[Running, float]]:
    """Start a server and wait for its first 200; with it goes how many seconds that took. `folder` takes its log.

    An OSError or ServerError before it is ended becomes a ToldError.
    """
    port, log = free_port(), folder / f"{server.name}.log"
    # Unbuffered, so that the log is complete whenever the server ends.
    command = [sys.executable, "-P", "-u", "-m", server.module, "--port", str(port), *server.arguments]
    if server.is_ours:
        command += ["--model-repository", str(workload.repository)]
    began = time.perf_counter()
    with running_session(command, _environment(server, workload), ROOT, log) as session:
        running = Running(server, workload, port, session, log)
        with running.explained():
            running.await_answer(START_S)
            yield running, time.perf_counter() - began


def free_port() -> int:
    """A port of 127.0.0.1 that is free now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _environment(server: ServerSpec, workload: Workload) -> dict[str, str]:
    variables = {"PYTHONPATH": python_path(ROOT, is_compiled=server.is_compiled), **dict(server.environment)}
    if server.is_ours:
        return variables
    return variables | {
        "PEER_MODEL": str(workload.model_file),
        "PEER_LABELS": json.dumps(workload.artifact.labels),
        "PEER_TOP_K": str(workload.top_k),
    }
