"""The reactor waits for what can be read, and for room where that is awaited."""

import os
import threading

from service.ipc.control import ControlMessage, ControlReader, ControlWriter, NewModels
from service.ipc.pipe import Pipe
from service.pools.reactor import Reactor
from tests.service.served import DEADLINE_S


def test_a_message_of_many_pipes_waits_for_nothing_but_its_reader() -> None:
    """A catalog of hundreds of models has megabytes; a pipe takes 64 KiB."""
    message, pipe, reactor = NewModels(1, os.urandom(4 << 20), ()), Pipe(), Reactor()
    received: list[ControlMessage] = []
    reader, writer = ControlReader(pipe, received.append), ControlWriter(pipe)

    def read() -> None:
        while not received:
            os.set_blocking(pipe.reader, True)
            reader.read()

    thread = threading.Thread(target=read, daemon=True)
    thread.start()
    writer.send(message)
    while writer.flush():
        reactor.await_room(pipe.writer)
        reactor.wait(DEADLINE_S)  # had it not ended before, for each of a hundred parts
    thread.join(DEADLINE_S)
    assert received == [message]


def test_room_is_awaited_once() -> None:
    full, quiet, reactor = Pipe(), Pipe(), Reactor()
    while True:
        try:
            os.write(full.writer, bytes(4096))
        except BlockingIOError:
            break
    read: list[bytes] = []
    reactor.watch(quiet.reader, lambda: read.append(os.read(quiet.reader, 8)))
    reactor.await_room(full.writer)
    full.drain()
    reactor.wait(DEADLINE_S)
    os.write(quiet.writer, b"said")
    reactor.wait(DEADLINE_S)  # there is room still, which nobody asks for
    assert read == [b"said"]


def test_what_is_watched_never_blocks_and_what_is_forgotten_is_not_called() -> None:
    pipe, reactor, called = Pipe(), Reactor(), list[str]()
    reactor.watch(pipe.reader, lambda: called.append("at first"))
    assert not os.get_blocking(pipe.reader)
    os.write(pipe.writer, b"said")
    reactor.forget(pipe.reader)
    reactor.wait(0)
    assert called == []
    reactor.watch(pipe.reader, lambda: called.append("later"))  # as another descriptor of this number is
    reactor.wait(DEADLINE_S)
    assert called == ["later"]
    pipe.close()
