"""A real server in its own process group, and what a test may ask of it."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit

import httpx

from benchmarks.compiled import NotCompiledError, python_path

ROOT = Path(__file__).resolve().parents[2]
DEADLINE_S = 120.0  # for whatever takes a busy machine seconds
POLL_S = 0.01


def until(condition: Callable[[], Any], what: str, deadline_s: float = DEADLINE_S) -> Any:
    """The first true value of the condition; fails the test with `what` was waited for."""
    end = time.monotonic() + deadline_s
    while not (value := condition()):
        assert time.monotonic() < end, f"waited {deadline_s:g} s for {what}"
        time.sleep(POLL_S)
    return value


def environment(**settings: str) -> dict[str, str]:
    """This process's environment without any setting of the server, and with these."""
    inherited = {name: value for name, value in os.environ.items() if not name.upper().startswith("RESNET_SERVE_")}
    return inherited | settings


@cache
def installed() -> str:
    """PYTHONPATH of the server as an installation on this machine has it: compiled, if there is a compiler."""
    try:
        return python_path(ROOT)
    except NotCompiledError:
        return python_path(ROOT, is_compiled=False)


def run_command(*arguments: str | Path, **variables: str) -> subprocess.CompletedProcess[str]:
    """`python -m service` with these arguments and variables, where it ends by itself."""
    command = [sys.executable, "-m", "service", *map(str, arguments)]
    settings = environment(**variables)
    return subprocess.run(command, env=settings, capture_output=True, text=True, timeout=DEADLINE_S, check=False)


def cpu_s(pid: int) -> float:
    """Seconds that a process has run on any core, by the scheduler's own account."""
    threads = Path(f"/proc/{pid}/task").glob("*/schedstat")
    return sum(int(thread.read_text().split()[0]) for thread in threads) / 1e9


def resident_bytes(pid: int) -> int:
    """What a process holds in memory (proc(5), statm)."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


class Served:
    """`python -m service`, compiled, with these flags and environment variables, from its start to its exit.

    `within` is a command that runs it, in a namespace of its own say; `module` one that runs it with a fault in it.
    """

    def __init__(
        self, *flags: str | Path, port: int = 0, within: Sequence[str] = (), module: str = "service", **settings: str
    ) -> None:
        extra = [settings["PYTHONPATH"]] if "PYTHONPATH" in settings else []
        command = [*within, sys.executable, "-P", "-m", module, "--port", str(port), *map(str, flags)]
        self.process = subprocess.Popen(
            command,
            env=environment(**settings | {"PYTHONPATH": os.pathsep.join([*extra, installed()])}),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        self.lines: list[str] = []
        self._changed = threading.Condition()
        self._log_ended = False
        self._reader = threading.Thread(target=self._read_log, daemon=True)
        self._reader.start()
        self._url: str | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self.kill()

    # The log

    def _read_log(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            with self._changed:
                self.lines.append(line.rstrip("\n"))
                self._changed.notify_all()
        with self._changed:
            self._log_ended = True
            self._changed.notify_all()

    @property
    def log(self) -> str:
        """Everything that the server has written to standard error."""
        return "\n".join(self.lines)

    def events(self, name: str | None = None, **fields: object) -> list[dict[str, Any]]:
        """The log's records: those of this event, with these fields."""
        records = [json.loads(line) for line in list(self.lines) if line.startswith("{")]
        wanted = fields | ({"event": name} if name else {})
        return [record for record in records if wanted.items() <= record.items()]

    def wait_for_event(self, name: str, **fields: object) -> dict[str, Any]:
        """The first such record of the log; fails if the log ends without it."""
        with self._changed:
            found = self._changed.wait_for(lambda: self.events(name, **fields) or self._log_ended, DEADLINE_S)
            assert found, f"waited for {name!r} in the log:\n{self.log}"
        assert self.events(name, **fields), f"no {name!r} in the log:\n{self.log}"
        return self.events(name, **fields)[0]

    # Requests

    @property
    def url(self) -> str:
        """Where it listens."""
        if self._url is None:
            self._url = str(self.wait_for_event("listening")["url"])
        return self._url

    @property
    def address(self) -> tuple[str, int]:
        """Host and port."""
        parts = urlsplit(self.url)
        return str(parts.hostname), int(parts.port or 0)

    def ready(self) -> Self:
        """Wait until it can take work, with every worker: one is enough for readiness."""
        until(lambda: self.status("/readyz") == 200 or self.process.poll() is not None, f"readiness:\n{self.log}")
        assert self.process.poll() is None, f"ended with {self.process.returncode}:\n{self.log}"
        for index in self._worker_indices():
            self.wait_for_event("worker up", worker=index)
        return self

    def status(self, path: str) -> int:
        """Status of a GET, 0 if there is no answer."""
        try:
            return httpx.get(self.url + path, timeout=DEADLINE_S).status_code
        except httpx.TransportError:
            return 0

    def metrics(self) -> dict[str, float]:
        """Every sample of /metrics by its series as exposed, such as `resnet_requests_shed_total{reason="full"}`."""
        text = httpx.get(self.url + "/metrics", timeout=DEADLINE_S).text
        samples = (line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))
        return {series: float(value) for series, value in samples}

    # Processes

    def processes(self) -> list[int]:
        """Every process of the server's session."""
        return [pid for pid, session in _sessions().items() if session == self.process.pid]

    def api_processes(self) -> list[int]:
        """Those that have given themselves the name."""
        return [pid for pid in self.processes() if process_name(pid).startswith("api-")]

    def worker(self, index: int = 0) -> int:
        """The process of the worker with this index, the newest one."""
        return int(self.events("worker started", worker=index)[-1]["pid"])

    def workers(self) -> list[int]:
        """The process of every worker."""
        return [self.worker(index) for index in self._worker_indices()]

    def _worker_indices(self) -> list[int]:
        return sorted({event["worker"] for event in self.events("worker started")})

    @contextmanager
    def stopped_workers(self) -> Iterator[None]:
        """Requests that come meanwhile are not answered; after two seconds the workers would count as hung."""
        with stopped(*self.workers()):
            yield

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Requests that come meanwhile are not answered, however long it takes: the supervisor does not look."""
        with stopped(self.process.pid, *self.workers()):
            yield

    # The end

    def signal(self, number: int) -> None:
        """Send a signal to the server's first process."""
        os.kill(self.process.pid, number)

    def wait(self) -> int:
        """Its exit code, once it and the whole log have ended: no process holds its standard error any longer."""
        code = self.process.wait(DEADLINE_S)
        self._reader.join(DEADLINE_S)
        assert not self._reader.is_alive(), f"a process outlives the server: {self.processes()}"
        return code

    def refusal(self) -> str:
        """The log of a server that must not come up."""
        assert self.wait() == 1, self.log
        assert "Traceback" not in self.log
        until(lambda: not self.processes(), "its last process to go")
        return self.log

    def stop(self) -> int:
        """SIGTERM; its exit code."""
        self.signal(signal.SIGTERM)
        return self.wait()

    def kill(self) -> None:
        """End whatever is left of it."""
        for pid in self.processes():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.process.wait(DEADLINE_S)
        self._reader.join(DEADLINE_S)
        assert self.process.stderr is not None
        self.process.stderr.close()


def memory_files(pid: int) -> int:
    """How many files in memory a process has open."""
    links = [path.readlink() for path in Path(f"/proc/{pid}/fd").iterdir() if path.is_symlink()]
    return sum(str(link).startswith("/memfd:resnet-serve") for link in links)


@contextmanager
def stopped(*pids: int) -> Iterator[None]:
    """Processes that stand still; the last to be stopped is the first to go on."""
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        # A thread that waits for a core stops only once it has one, and the others of its process with it.
        until(lambda: all(state == "T" for pid in pids for state in _thread_states(pid)), "all to stand still")
        yield
    finally:
        for pid in reversed(pids):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)


class Servers:
    """Starts servers, each with these flags and environment variables, and ends what is left of them."""

    def __init__(self, *flags: str | Path, **settings: str) -> None:
        self._flags, self._settings = flags, settings
        self.started: list[Served] = []

    def __call__(
        self, *flags: str | Path, port: int = 0, within: Sequence[str] = (), module: str = "service", **settings: str
    ) -> Served:
        settings = self._settings | settings
        self.started.append(Served(*self._flags, *flags, port=port, within=within, module=module, **settings))
        return self.started[-1]

    def close(self) -> None:
        """Kill every process of theirs."""
        for served in self.started:
            served.kill()


def _sessions() -> dict[int, int]:
    """Session of every process that is not a zombie (proc(5): state and session follow the name)."""
    sessions = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _, _, session = stat.read_text().rpartition(")")[2].split()[:4]
        except OSError:
            continue
        if state != "Z":
            sessions[int(stat.parent.name)] = int(session)
    return sessions


def _thread_states(pid: int) -> list[str]:
    """State of each thread of a process, none if it has ended."""
    states = []
    for stat in Path(f"/proc/{pid}/task").glob("*/stat"):
        with suppress(OSError):
            states.append(stat.read_text().rpartition(")")[2].split()[0])
    return states


def process_name(pid: int) -> str:
    """What `ps` shows; nothing if it has ended meanwhile."""
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return ""


def is_listening(address: tuple[str, int]) -> bool:
    """Whether a process accepts connections there."""
    with socket.socket() as probe:
        return probe.connect_ex(address) == 0


def free_port() -> int:
    """A port on which no process listens now."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])
