"""What the supervisor tells an API process, through real pipes."""

import errno
import os

import pytest

from service.ipc.control import Begin, ControlMessage, ControlReader, ControlWriter, Drain, WorkerDown, WorkerUp
from service.ipc.pipe import Pipe
from service.ipc.reports import ModelReport

MESSAGES: tuple[ControlMessage, ...] = (
    WorkerUp(1, 3, (ModelReport(0, "ready", max_batch_size=8, batch_latency_ms=((1, 0.5), (8, 2.0))),)),
    WorkerUp(0, 1, (ModelReport(0, "failed", reason="line\nbreak"),)),
    WorkerDown(2),
    Begin(),
    Drain(1.5, 8.0),
)


def test_messages_arrive_whole_and_in_order() -> None:
    pipe, received = Pipe(), list[ControlMessage]()
    reader, writer = ControlReader(pipe, received.append), ControlWriter(pipe)
    for message in MESSAGES:
        writer.send(message)
    reader.read()
    reader.read()  # nothing more is there
    assert received == list(MESSAGES)
    pipe.close()


def test_a_message_may_come_in_pieces() -> None:
    sent, pieces, received = Pipe(), Pipe(), list[ControlMessage]()
    ControlWriter(sent).send(WorkerDown(5))
    reader = ControlReader(pieces, received.append)
    for byte in os.read(sent.reader, 1 << 16):
        assert received == []
        os.write(pieces.writer, bytes([byte]))
        reader.read()
    assert received == [WorkerDown(5)]


def test_a_process_that_does_not_read_for_a_while_holds_up_nobody_and_misses_nothing() -> None:
    pipe, received = Pipe(), list[ControlMessage]()
    writer, reader = ControlWriter(pipe), ControlReader(pipe, received.append)
    sent: list[ControlMessage] = [WorkerDown(i) for i in range(10_000)]  # more than a pipe takes
    for message in sent:
        writer.send(message)
    while len(received) < len(sent):
        before = len(received)
        reader.read()
        writer.flush()
        assert len(received) > before
    assert received == sent
    pipe.close()


def test_what_the_kernel_has_no_memory_for_is_sent_later_and_waits_for_no_room(monkeypatch: pytest.MonkeyPatch) -> None:
    pipe, received = Pipe(), list[ControlMessage]()
    writer, reader = ControlWriter(pipe), ControlReader(pipe, received.append)

    def fail(*_: object) -> int:
        raise OSError(errno.ENOMEM, os.strerror(errno.ENOMEM))

    with monkeypatch.context() as short:
        short.setattr(os, "write", fail)
        writer.send(WorkerDown(1))
        assert not writer.flush()  # there is room, so that who waited for it would be called at once, again and again
    assert not writer.flush()
    reader.read()
    assert received == [WorkerDown(1)]
    pipe.close()


def test_a_message_that_cannot_be_dealt_with_costs_no_other() -> None:
    pipe, received = Pipe(), list[ControlMessage]()

    def deliver(message: ControlMessage) -> None:
        if message == WorkerDown(1):
            raise ValueError("which worker?")
        received.append(message)

    reader, writer = ControlReader(pipe, deliver), ControlWriter(pipe)
    for i in range(4):
        writer.send(WorkerDown(i))
    with pytest.raises(ExceptionGroup) as raised:
        reader.read()
    assert [str(error) for error in raised.value.exceptions] == ["which worker?"]
    assert received == [WorkerDown(i) for i in (0, 2, 3)]
    pipe.close()
