"""What the supervisor tells an API process, through real pipes."""

import os

from service.ipc.control import Begin, ControlMessage, ControlReader, Drain, WorkerDown, WorkerUp, send
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
    reader = ControlReader(pipe, received.append)
    for message in MESSAGES:
        send(pipe, message)
    reader.read()
    reader.read()  # nothing more is there
    assert received == list(MESSAGES)
    pipe.close()


def test_a_message_may_come_in_pieces() -> None:
    sent, pieces, received = Pipe(), Pipe(), list[ControlMessage]()
    send(sent, WorkerDown(5))
    reader = ControlReader(pieces, received.append)
    for byte in os.read(sent.reader, 1 << 16):
        assert received == []
        os.write(pieces.writer, bytes([byte]))
        reader.read()
    assert received == [WorkerDown(5)]


def test_a_process_that_does_not_read_does_not_hold_up_the_supervisor_and_loses_only_whole_messages() -> None:
    pipe, received = Pipe(), list[ControlMessage]()
    for _ in range(10_000):
        send(pipe, WorkerDown(5))
    reader, read = ControlReader(pipe, received.append), -1
    while len(received) > read:
        read = len(received)
        reader.read()
    assert 0 < read < 10_000
    assert received == [WorkerDown(5)] * read
    pipe.close()
