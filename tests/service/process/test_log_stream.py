"""Standard error as the log: what is lost where it is not read, and that nothing waits for it."""

import fcntl
import os
import pty
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from service.process.log_stream import LogStream
from tests.service.pictures import png
from tests.service.served import DEADLINE_S, environment, free_port, until

LINE = b"x" * 99 + b"\n"


@pytest.fixture(params=["pipe", "terminal"])
def ends(request: pytest.FixtureRequest) -> Iterator[tuple[int, int]]:
    """What is read from, without waiting, and what is written to."""
    if request.param == "pipe":
        reader, writer = os.pipe()
    else:
        reader, writer = pty.openpty()
    os.set_blocking(reader, False)
    yield reader, writer
    os.close(reader)
    os.close(writer)


def read(reader: int) -> bytes:
    """What lies there."""
    found = b""
    while True:
        try:
            found += os.read(reader, 1 << 16)
        except BlockingIOError:
            return found.replace(b"\r\n", b"\n")  # as terminals end lines


def test_what_is_not_read_is_lost_and_counted(ends: tuple[int, int]) -> None:
    reader, writer = ends
    told: list[int] = []
    stream = LogStream(told.append, writer)
    for _ in range(2000):  # far more than there is room for
        stream.write_lines(LINE)
    assert told == []
    kept = read(reader)
    stream.write_lines(b"at last\n")
    (lost,) = told
    assert 0 < lost < 2000
    lines = (kept + read(reader)).removesuffix(b"at last\n")
    assert 0 <= len(lines) - (2000 - lost) * len(LINE) <= len(LINE)  # one may be torn
    assert lines.count(LINE) - (2000 - lost) in (0, 1)  # just before its end


def test_a_line_behind_a_torn_one_is_whole() -> None:
    reader, writer = os.pipe()
    os.set_blocking(reader, False)
    size = fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, 8192)
    stream = LogStream(lambda _: None, writer)
    stream.write_lines(b"y" * (2 * size) + b"\n")
    assert read(reader) == b"y" * size
    stream.write("a line\n")
    assert read(reader) == b"\na line\n"
    os.close(reader)
    stream.write("nobody reads\n")  # no error
    os.close(writer)


def test_a_log_that_nobody_reads_holds_up_neither_requests_nor_the_end(repository: Path) -> None:
    port = free_port()
    flags = ("--model-repository", str(repository), "--default-model", "plain", "--workers", "1", "--port", str(port))
    command = [sys.executable, "-m", "service", *flags, "--access-log", "all"]
    reader, writer = os.pipe()
    fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, 4096)  # the lines of the start fill it
    with subprocess.Popen(command, env=environment(), stderr=writer) as server:
        os.close(writer)
        try:
            until(lambda: _status(port) == 200 or server.poll() is not None, "readiness")
            answers = [httpx.post(f"http://127.0.0.1:{port}/predict", content=png(), timeout=DEADLINE_S) for _ in "abc"]
            assert [answer.status_code for answer in answers] == [200] * 3
            server.terminate()
            assert server.wait(DEADLINE_S) == 0
        finally:
            server.kill()
    os.close(reader)


def _status(port: int) -> int:
    try:
        return httpx.get(f"http://127.0.0.1:{port}/readyz", timeout=DEADLINE_S).status_code
    except httpx.TransportError:
        return 0
