"""How many connections a turn of the event loop accepts, and how several loops share them."""

import asyncio
import gc
import os
import resource
import select
import socket
import ssl
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from ipaddress import IPv6Address
from pathlib import Path

import pytest
import uvloop
from structlog.testing import capture_logs

from service.auth.tls import ServerTls
from service.http.accept_share import AcceptShare
from service.http.acceptor import HANDSHAKE_S, Acceptor, drop_new_connections, listen
from service.policy import ACCEPTS_PER_TURN
from tests.service.certificates import write_certificate
from tests.service.served import DEADLINE_S

CROWD = 200
TENTATIVE, OF_A_LINK = 0x40, "20"  # as /proc/net/if_inet6 has them


def no_room(_most: int) -> int:
    """No connection is idle."""
    return 0


async def accept(already: int) -> tuple[int, int]:
    """How many of a crowd a loop accepts in its first turn, with so many connections, and how many until it stops."""
    taken: list[asyncio.Protocol] = []

    def make() -> asyncio.Protocol:
        taken.append(asyncio.Protocol())
        return taken[-1]

    with ExitStack() as stack:
        listener = stack.enter_context(listen("127.0.0.1", 0))
        for _ in range(CROWD):
            stack.enter_context(socket.create_connection(listener.getsockname(), DEADLINE_S))
        acceptor = Acceptor(listener, make, AcceptShare(range(already), [0], 0), no_room)
        while not taken:
            await asyncio.sleep(0)
        first = len(taken)
        await acceptor.close()
        return first, len(taken)


@pytest.mark.parametrize(("already", "first"), [(0, ACCEPTS_PER_TURN), (200, 50), (1000, CROWD)])
def test_a_turn_accepts_a_quarter_more_and_the_end_loses_none(already: int, first: int) -> None:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        assert runner.run(asyncio.wait_for(accept(already), DEADLINE_S)) == (first, CROWD)


async def share(counts: list[int], own: int, clients: int) -> list[int]:
    """How many of so many clients, one after the other, each of `own` loops gets, beside others that get none."""
    taken: list[list[asyncio.Protocol]] = [[] for _ in range(own)]
    with ExitStack() as stack:
        listener = stack.enter_context(listen("127.0.0.1", 0))
        acceptors = []
        for index, connections in enumerate(taken):
            copy = stack.enter_context(listener.dup())
            acceptors.append(
                Acceptor(copy, partial(keep, connections), AcceptShare(connections, counts, index), no_room)
            )
        for i in range(clients):
            stack.enter_context(socket.create_connection(listener.getsockname(), DEADLINE_S))
            while sum(map(len, taken)) <= i:
                await asyncio.sleep(0)
        for acceptor in acceptors:
            await acceptor.close()
    return [len(connections) for connections in taken]


def keep(connections: list[asyncio.Protocol]) -> asyncio.Protocol:
    connections.append(asyncio.Protocol())
    return connections[-1]


def test_processes_get_as_many_each_and_none_waits_for_those_that_take_none() -> None:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        assert runner.run(asyncio.wait_for(share([0, 0, 0], 3, 60), DEADLINE_S)) == [20, 20, 20]
        assert runner.run(asyncio.wait_for(share([0, 0], 1, 60), DEADLINE_S)) == [60]


def test_a_connection_that_is_made_counts_once() -> None:
    taken: list[asyncio.Protocol] = []

    async def play() -> int:
        with ExitStack() as stack:
            listener = stack.enter_context(listen("127.0.0.1", 0))
            for _ in range(3):
                stack.enter_context(socket.create_connection(listener.getsockname(), DEADLINE_S))
            acceptor = Acceptor(listener, partial(keep, taken), connections := AcceptShare(taken, [0], 0), no_room)
            await acceptor.close()
            return connections.publish()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        assert runner.run(asyncio.wait_for(play(), DEADLINE_S)) == len(taken) == 3


def test_a_client_that_speaks_no_tls_loses_its_own_connection_alone(tmp_path: Path) -> None:
    files = write_certificate(tmp_path)
    tls = ServerTls(files.certificate, files.key, None)
    made: list[asyncio.Protocol] = []

    def make() -> asyncio.Protocol:
        made.append(asyncio.Protocol())
        return made[-1]

    async def play() -> None:
        with listen("127.0.0.1", 0) as listener:
            host, port = listener.getsockname()
            acceptor = Acceptor(
                listener, make, AcceptShare((), [0], 0), no_room, lambda: tls.context(asks_client=True), patience_s=3600
            )
            reader, writer = await asyncio.open_connection(host, port)
            writer.write(b"GET / HTTP/1.1\r\n\r\n")
            while await reader.read(1 << 10):
                pass
            writer.close()
            trust = ssl.create_default_context(cafile=str(files.root))
            _, good = await asyncio.open_connection(host, port, ssl=trust)
            assert good.get_extra_info("ssl_object").selected_alpn_protocol() is None
            silent = await asyncio.open_connection(host, port)
            await acceptor.close()
            assert await silent[0].read(1) == b""
            silent[1].close()
            good.transport.abort()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(asyncio.wait_for(play(), DEADLINE_S))


def test_a_connection_for_which_there_is_no_room_is_closed_and_the_next_is_served() -> None:
    failed: list[object] = []
    made: list[asyncio.Protocol] = []

    def make() -> asyncio.Protocol:
        if not failed:
            failed.append(MemoryError())
            raise failed[0]  # type: ignore[misc]
        return keep(made)

    async def play() -> list[object]:
        unhandled: list[object] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, context: unhandled.append(context))
        with listen("127.0.0.1", 0) as listener:
            acceptor = Acceptor(listener, make, AcceptShare((), [0], 0), no_room)
            reader, writer = await asyncio.open_connection(*listener.getsockname())
            assert await reader.read(1) == b""
            writer.close()
            _, good = await asyncio.open_connection(*listener.getsockname())
            while not made:
                await asyncio.sleep(0)
            good.close()
            await acceptor.close()
        gc.collect()  # a task whose error nobody has taken tells of it at its end
        return unhandled

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner, capture_logs() as logs:
        assert runner.run(asyncio.wait_for(play(), DEADLINE_S)) == []
    assert [(line["event"], line["log_level"], line["why"]) for line in logs] == [
        ("no connection", "warning", "out of memory")
    ]


@contextmanager
def without_descriptors() -> Iterator[Callable[[], None]]:
    """This process can open nothing more until it ends, or what is given is called."""
    gc.collect()  # what others left open is closed before
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    lowest = os.dup(0)
    os.close(lowest)
    resource.setrlimit(resource.RLIMIT_NOFILE, (lowest, hard))
    restore = partial(resource.setrlimit, resource.RLIMIT_NOFILE, (soft, hard))
    try:
        yield restore
    finally:
        restore()


def test_where_descriptors_run_out_those_that_wait_are_taken_once_there_are_some() -> None:
    """The idle ones are asked to make as much room as is waited for."""
    asked: list[int] = []
    taken: list[asyncio.Protocol] = []

    def make_room(most: int) -> int:
        asked.append(most)
        asyncio.get_running_loop().call_soon(restore)
        return 2

    async def play() -> None:
        nonlocal restore
        with ExitStack() as stack:
            listener = stack.enter_context(listen("127.0.0.1", 0))
            for _ in range(3):
                stack.enter_context(socket.create_connection(listener.getsockname(), DEADLINE_S))
            acceptor = Acceptor(listener, partial(keep, taken), AcceptShare((), [0], 0), make_room)
            restore = stack.enter_context(without_descriptors())
            while len(taken) < 3:
                await asyncio.sleep(0)
            await acceptor.close()

    restore: Callable[[], None]
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner, capture_logs() as logs:
        runner.run(asyncio.wait_for(play(), DEADLINE_S))
    assert asked == [3]
    assert [(line["event"], line["closing_idle"]) for line in logs] == [("no new connections", 2)]


def test_the_end_waits_for_descriptors(monkeypatch: pytest.MonkeyPatch) -> None:
    taken: list[asyncio.Protocol] = []

    async def play() -> None:
        short = asyncio.Event()
        with ExitStack() as stack:
            listener = stack.enter_context(listen("127.0.0.1", 0))
            stack.enter_context(socket.create_connection(listener.getsockname(), DEADLINE_S))

            def make_room(_most: int) -> int:
                short.set()
                return 0

            acceptor = Acceptor(listener, partial(keep, taken), AcceptShare((), [0], 0), make_room)
            restore = stack.enter_context(without_descriptors())
            monkeypatch.setattr("service.http.acceptor.DESCRIPTOR_PAUSE_S", 3 * HANDSHAKE_S)
            await short.wait()
            asyncio.get_running_loop().call_later(2 * HANDSHAKE_S, restore)
            await acceptor.close()
            assert len(taken) == 1

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(asyncio.wait_for(play(), DEADLINE_S))


def can_write(client: socket.socket, timeout_s: float) -> bool:
    """Whether it is connected in time; poll(2), since this process may have more descriptors than select(2) knows."""
    connected = select.poll()
    connected.register(client, select.POLLOUT)
    return [(client.fileno(), select.POLLOUT)] == connected.poll(timeout_s * 1000)


def test_nobody_connects_any_more_once_new_connections_are_dropped() -> None:
    with listen("127.0.0.1", 0) as listener, ExitStack() as stack:
        clients = [stack.enter_context(socket.socket()) for _ in range(2)]
        for client in clients:
            client.setblocking(False)
        before, behind = clients
        before.connect_ex(listener.getsockname())
        assert can_write(before, DEADLINE_S)
        drop_new_connections(listener)
        behind.connect_ex(listener.getsockname())
        assert not can_write(behind, 0)
        accepted, address = listener.accept()
        accepted.close()
        assert address == before.getsockname()


@pytest.mark.parametrize("later", [False, True])
def test_every_address_of_this_machine_can_be_listened_on(later: bool) -> None:
    """An IPv4 address that is written as IPv6, and one of a link, which needs the name of its interface."""
    known = Path("/proc/net/if_inet6")
    hosts = ["127.0.0.1", "localhost", *(["::ffff:127.0.0.1"] if known.exists() else [])]
    for line in known.read_text().splitlines() if known.exists() else ():
        digits, _, _, scope, flags, interface = line.split()
        if not int(flags, 16) & TENTATIVE:
            hosts.append(f"{IPv6Address(bytes.fromhex(digits))}{'%' + interface if scope == OF_A_LINK else ''}")
    for host in hosts:
        with listen(host, 0, later=later) as listener:
            address = host, listener.getsockname()[1]
            if later:
                with pytest.raises(ConnectionRefusedError):
                    socket.create_connection(address, DEADLINE_S)
                listener.listen()
            socket.create_connection(address, DEADLINE_S).close()
