"""The supervisor and what it tells: with children that are real processes, made by the test."""

import json
import multiprocessing
import os
import sys
import time
from collections.abc import Callable
from dataclasses import asdict
from multiprocessing.process import BaseProcess
from pathlib import Path

import pytest

from models.artifact.artifact import read_artifact
from service.ipc.control import Begin, Drain, Listener, Message, SeatDown, SeatUp, send
from service.ipc.reports import ModelReport
from service.ipc.transport import Channels, Pipe
from service.metrics.metrics import Metrics, ServedModel
from service.repository import Catalog
from service.settings import Settings
from service.supervisor.children import BACK_OFF_S, LONG_LIFE_S, UNREAD_LIMIT_S, Child, Seat
from service.supervisor.supervisor import FIRST_STARTS, Supervisor
from tests.service.served import DEADLINE_S

FORK = multiprocessing.get_context("fork")


def test_whoever_dies_again_and_again_is_started_later_and_later() -> None:
    child, now = Child(0), 1000.0
    waits = []
    for _ in range(7):
        child.born_s = now
        child.plan_restart(now + 1)
        waits.append(child.restart_at_s - now - 1)
        now = child.restart_at_s
    assert waits == pytest.approx([*BACK_OFF_S, BACK_OFF_S[-1], BACK_OFF_S[-1]])
    assert waits[0] == 0  # an accident costs nobody time
    child.born_s = now
    child.plan_restart(now + LONG_LIFE_S + 1)
    assert child.restart_at_s == pytest.approx(now + LONG_LIFE_S + 1)


def test_a_worker_that_takes_nothing_up_is_noticed() -> None:
    channels = Channels(seats=1, api_processes=1, slots=1, input_bytes=1, classes=2)
    seat, board = Seat(0), channels.board
    assert not seat.leaves_unread(channels, 0.0)
    os.write(channels.requests[0].writer, b"a batch")
    noticed = 1 + UNREAD_LIMIT_S + 0.1
    assert [seat.leaves_unread(channels, now) for now in (1.0, 2.0, noticed)] == [False, False, True]
    board.taken[0, 0] = 7  # it has taken one up meanwhile: this is another that waits
    assert [seat.leaves_unread(channels, now) for now in (noticed, noticed + 1)] == [False, False]
    board.began_ns[0] = 1  # it is busy
    assert not seat.leaves_unread(channels, noticed + 10)
    channels.requests[0].drain()
    board.began_ns[0] = 0
    assert not seat.leaves_unread(channels, noticed + 20)


MESSAGES: tuple[Message, ...] = (
    SeatUp(1, 3, (ModelReport(0, "ready", max_batch_size=8, batch_latency_ms=((1, 0.5), (8, 2.0))),)),
    SeatUp(0, 1, (ModelReport(0, "failed", reason="line\nbreak"),)),
    SeatDown(2),
    Begin(),
    Drain(1.5, 8.0),
)


def test_messages_arrive_whole_and_in_order() -> None:
    pipe, received = Pipe(), list[Message]()
    listener = Listener(pipe, received.append)
    for message in MESSAGES:
        send(pipe, message)
    listener.read()
    listener.read()  # nothing more is there
    assert list(map(told, received)) == list(map(told, MESSAGES))
    pipe.close()


def told(message: Message) -> tuple[type[Message], str]:
    """What a message says; JSON knows no tuples."""
    return type(message), json.dumps(asdict(message))


def test_a_message_may_come_in_pieces() -> None:
    sent, pieces, received = Pipe(), Pipe(), list[Message]()
    send(sent, SeatDown(5))
    listener = Listener(pieces, received.append)
    for byte in os.read(sent.reader, 1 << 16):
        assert received == []
        os.write(pieces.writer, bytes([byte]))
        listener.read()
    assert received == [SeatDown(5)]


def test_a_process_that_does_not_read_holds_up_nobody() -> None:
    pipe = Pipe()
    for _ in range(100_000):
        send(pipe, Begin())
    pipe.close()


class Played:
    """A launcher whose workers do what the test says; its API processes wait for the end."""

    def __init__(self, work: Callable[[int], None], births: Path) -> None:
        self._work, self._births = work, births

    def launch_worker(self, seat: int) -> BaseProcess:
        with self._births.open("a") as births:
            births.write(f"{time.monotonic()}\n")
        return start(self._work, seat)

    def launch_api(self, index: int, control: Pipe) -> BaseProcess:
        del index
        return start(wait_for_the_end, control)

    def close_listener(self) -> None:
        pass


def start(target: Callable[..., None], *arguments: object) -> BaseProcess:
    process = FORK.Process(target=target, args=arguments)
    process.start()
    return process


def wait_for_the_end(control: Pipe) -> None:
    os.set_blocking(control.reader, True)
    received = b""
    while b'"Drain"' not in received:
        received += os.read(control.reader, 1 << 16)


def supervise(work: Callable[[int], None], repository: Path, births: Path) -> None:
    """Run a supervisor of one seat to its end."""
    artifact = read_artifact(repository / "plain" / "2")
    channels = Channels(1, 1, 2, 64, 10)
    metrics = Metrics([ServedModel("plain", "2", artifact.labels)], ["/predict"], 1, 1)
    metrics.attach(metrics.supervisor_row)
    catalog = Catalog((artifact,), {}, 0)
    sys.exit(Supervisor(Played(work, births), channels, catalog, metrics, Settings(_cli_parse_args=False)).run())


def die(seat: int) -> None:
    os._exit(10 + seat)


def test_workers_that_never_come_up_end_the_server(repository: Path, tmp_path: Path) -> None:
    births = tmp_path / "births"
    supervisor = start(supervise, die, repository, births)
    supervisor.join(DEADLINE_S)
    assert supervisor.exitcode == 1
    assert len(births.read_text().splitlines()) == FIRST_STARTS
