"""Pipes: one message a read, and a writer that never blocks."""

import fcntl
import os
from select import PIPE_BUF

import pytest

from service.ipc.pipe import Pipe


def test_one_read_gives_one_message() -> None:
    pipe = Pipe(packets=True)
    for data in (b"one", b"another"):
        os.write(pipe.writer, data)
    assert [os.read(pipe.reader, PIPE_BUF) for _ in range(2)] == [b"one", b"another"]
    pipe.close()


def test_a_full_pipe_does_not_block_its_writer() -> None:
    pipe = Pipe(packets=True)
    for _ in range(fcntl.fcntl(pipe.writer, fcntl.F_GETPIPE_SZ) // PIPE_BUF):
        os.write(pipe.writer, bytes(PIPE_BUF))
    with pytest.raises(BlockingIOError):
        os.write(pipe.writer, b"one too many")
    pipe.drain()
    os.write(pipe.writer, b"again")
    assert os.read(pipe.reader, PIPE_BUF) == b"again"
    pipe.close()
