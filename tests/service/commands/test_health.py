"""`resnet-serve health` finds the server by the server's own settings, however they were given."""

import socket
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest

from service.commands.health import flags_of
from service.config.settings import SettingError
from tests.service.served import DEADLINE_S, Servers, free_port, run_command


def health(*flags: str | Path, **variables: str) -> subprocess.CompletedProcess[str]:
    return run_command("health", *flags, **variables)


def test_a_server_is_found_by_its_flags_its_variables_and_its_file(
    serve: Servers, repository: Path, tmp_path: Path
) -> None:
    port, file = free_port(), tmp_path / "serve.toml"
    file.write_text(f'host = "::"\nmodel_repository = "{repository}"\ndefault_model = "plain"\nworkers = 1\n')
    served = serve("--config", file, port=port).ready()
    assert health("--of-process", str(served.process.pid)).returncode == 0
    assert health("--config", file, RESNET_SERVE_PORT=str(port)).returncode == 0
    assert health("--host", "::", RESNET_SERVE_PORT=str(port)).returncode == 0
    assert served.stop() == 0
    ended = health("--port", str(port))
    assert (ended.returncode, ended.stdout) == (1, "")
    assert ended.stderr.startswith(f"resnet-serve: 127.0.0.1 port {port}: no answer")


def test_a_server_that_is_not_ready_is_not_healthy(http_refusal: int) -> None:
    ended = health("--port", str(http_refusal))
    assert (ended.returncode, ended.stderr) == (1, f"resnet-serve: 127.0.0.1 port {http_refusal}: not ready\n")


@pytest.fixture
def http_refusal() -> Iterator[int]:
    """The port of a server that answers once, as ours while it loads."""
    with socket.create_server(("127.0.0.1", 0)) as listener, ThreadPoolExecutor(1) as pool:

        def refuse() -> None:
            connection, _ = listener.accept()
            with connection:
                assert connection.recv(1 << 16).startswith(b"GET /readyz HTTP/1.1\r\n")
                connection.sendall(b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 10\r\n\r\nnot ready\n")

        refused = pool.submit(refuse)
        yield int(listener.getsockname()[1])
        refused.result(DEADLINE_S)


@contextmanager
def sleeping(*words: str) -> Iterator[int]:
    """A process with these words behind its program's name; its id."""
    command = [sys.executable, "-c", "import sys; print('up', flush=True); sys.stdin.read()", *words]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        yield process.pid
        process.kill()


def test_a_port_that_is_not_known_is_an_error() -> None:
    ended = health("--port", "0")
    assert ended.returncode == 2
    assert "--port 0" in ended.stderr


@pytest.mark.parametrize(
    ("words", "flags"),
    [
        (("/opt/bin/resnet-serve", "--port", "9"), ["--port", "9"]),
        (("resnet-serve", "serve", "--port", "9"), ["--port", "9"]),
        (("init", "--", "resnet-serve", "--host", "::"), ["--host", "::"]),
        (("-m", "service", "--config", "a b"), ["--config", "a b"]),
        (("resnet-serve",), []),
        (("resnet-serve", "--config", "\udcff"), ["--config", "\udcff"]),  # no text in UTF-8
    ],
)
def test_flags_are_what_stands_behind_the_program(words: tuple[str, ...], flags: list[str]) -> None:
    with sleeping(*words) as pid:
        assert flags_of(pid) == flags


def test_another_process_is_an_error() -> None:
    with sleeping("--port", "9") as pid:  # noqa: SIM117 - the message names it
        with pytest.raises(SettingError, match=f"process {pid} is no resnet-serve"):
            flags_of(pid)
