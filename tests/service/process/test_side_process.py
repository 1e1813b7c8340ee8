"""A process for what may crash or hang: what it tells arrives, and nothing is left of it."""

import os
import signal
import subprocess
import sys
import time
from multiprocessing.connection import Connection
from typing import Literal

import pytest

from service.process.side_process import side_process
from tests.service.served import DEADLINE_S

PROGRAM = """
import signal
from service.process.side_process import side_process

def hang(writer):
    writer.send("hangs")
    signal.pause()

with side_process("fork", hang) as (process, reader):
    print(reader.recv(), flush=True)
    signal.pause()
"""


def double(writer: Connection, number: int) -> None:
    writer.send(2 * number)


def hang(writer: Connection) -> None:
    writer.send(os.getpid())
    time.sleep(3600)


def crash(_: Connection) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.parametrize("start", ["fork", "spawn"])
def test_what_it_tells_arrives(start: Literal["fork", "spawn"]) -> None:
    with side_process(start, double, 21) as (_, reader):
        assert reader.recv() == 42


def test_the_end_of_one_that_crashes_is_seen() -> None:
    with side_process("fork", crash) as (process, reader):
        with pytest.raises(EOFError):
            reader.recv()
        process.join(DEADLINE_S)
        assert process.exitcode == -signal.SIGKILL


def test_one_that_hangs_ends_with_its_use() -> None:
    with side_process("fork", hang) as (_, reader):
        pid = reader.recv()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_one_that_hangs_ends_when_its_parent_is_killed() -> None:
    """Both hold standard output, which so ends with the last of them."""
    with subprocess.Popen([sys.executable, "-c", PROGRAM], stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        assert parent.stdout.readline() == b"hangs\n"
        os.kill(parent.pid, signal.SIGKILL)
        rest, _ = parent.communicate(timeout=DEADLINE_S)
    assert rest == b""
