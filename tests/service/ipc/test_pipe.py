"""Pipes: one message a read, and a writer that never blocks."""

import errno
import fcntl
import os
from select import PIPE_BUF
from threading import Thread

import pytest

from service.ipc.pipe import Pipe
from tests.service.served import DEADLINE_S


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


def test_what_is_more_than_a_pipe_holds_is_written_as_it_is_read() -> None:
    pipe, data, read = Pipe(), os.urandom(1 << 20), bytearray()

    def read_all() -> None:
        while len(read) < len(data):
            read.extend(os.read(pipe.reader, 10_000))

    reader = Thread(target=read_all, daemon=True)
    reader.start()
    pipe.write(data)
    reader.join(DEADLINE_S)
    assert read == data
    pipe.close()


def test_the_kernels_want_of_memory_delays_what_is_written_and_loses_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    pipe, write, failures = Pipe(), os.write, [OSError(errno.ENOMEM, os.strerror(errno.ENOMEM))] * 2

    def write_later(fd: int, data: bytes) -> int:
        if failures:
            raise failures.pop()
        return write(fd, data)

    monkeypatch.setattr(os, "write", write_later)
    pipe.write(b"a report")
    assert os.read(pipe.reader, 1 << 16) == b"a report"
    pipe.close()


def test_what_nobody_can_read_is_an_error() -> None:
    pipe = Pipe()
    os.close(pipe.reader)
    with pytest.raises(BrokenPipeError):
        pipe.write(b"a report")
    os.close(pipe.writer)


def test_a_pipe_reads_as_before_once_it_is_drained() -> None:
    pipe = Pipe()
    for blocks in (False, True):
        os.set_blocking(pipe.reader, blocks)
        pipe.drain()
        assert os.get_blocking(pipe.reader) is blocks
    pipe.close()
