"""The listening socket, and how the API processes accept its connections."""

import asyncio
import contextlib
import ctypes
import errno
import resource
import socket
import ssl
import struct
from collections.abc import Callable

import structlog

from service.http.accept_share import AcceptShare
from service.http.send_queue import SendQueue
from service.policy import DESCRIPTOR_PAUSE_S, LINGER_S, YIELD_S
from service.process.shortage import in_words, is_shortage

log = structlog.get_logger()

BACKLOG = 65535
"""Connections that the kernel may hold until they are accepted; net.core.somaxconn bounds it, often 4096."""
HANDSHAKE_S = 0.1  # time for a TCP handshake under way to end

_SO_ATTACH_FILTER = 26  # socket(7)


def allow_descriptors() -> None:
    """Let this process and its children have as many connections open as the hard limit allows, often 1024 at first."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def listen(host: str, port: int, setting: str = "--port", *, later: bool = False) -> socket.socket:
    """The listening socket; OSError that says what to do, with which setting, when the address is taken or not ours.

    `later`: it has its address, and refuses connections until `listen` is called on it.
    It never blocks: the API processes share it, and another one may have accepted the connection that was there.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        *_, address = socket.getaddrinfo(host, port, family, socket.SOCK_STREAM)[0]  # %eth0 is a number in it
        with contextlib.ExitStack() as failure:
            listener = failure.enter_context(socket.socket(family))
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family is socket.AF_INET6:  # :: takes IPv4 too, as everywhere on Linux
                listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, not socket.has_dualstack_ipv6())
            listener.bind(address)
            if not later:
                listener.listen(BACKLOG)
            failure.pop_all()
    except OSError as error:
        taken = error.errno in (errno.EADDRINUSE, errno.EACCES)
        advice = f"choose another with {setting}" if taken else "give an address of this machine"
        raise OSError(f"cannot listen on {host}:{port}: {error.strerror}; {advice}") from error
    listener.setblocking(False)
    return listener


class Acceptor:
    """Accepts the connections to a listening socket in one event loop, each with a protocol of its own.

    While the other processes have fewer, they get a moment to take what waits. If no descriptors are left `make_room`
    closes so many idle connections at most, and tells how many. With `get_tls` each connection begins with a TLS
    handshake, which has `patience_s`, and ends with its goodbye: that has `goodbye_s`, in which the client takes what
    it had not read.
    """

    def __init__(
        self,
        listener: socket.socket,
        make_protocol: Callable[[], asyncio.Protocol],
        share: AcceptShare,
        make_room: Callable[[int], int],
        get_tls: Callable[[], ssl.SSLContext] | None = None,
        patience_s: float = 5.0,
        goodbye_s: float = 5.0,
    ) -> None:
        self._listener, self._make_protocol, self._share, self._make_room = listener, make_protocol, share, make_room
        self._get_tls, self._patience_s, self._goodbye_s = get_tls, patience_s, goodbye_s
        self._loop = asyncio.get_running_loop()
        self._connecting: set[asyncio.Task[object]] = set()
        share.parts.append(self._connecting)
        self._pause: asyncio.TimerHandle | None = None
        self._listen()

    async def close(self) -> None:
        """Accept the connections that are established, and no more."""
        drop_new_connections(self._listener)
        await asyncio.sleep(HANDSHAKE_S)
        self._loop.remove_reader(self._listener)
        if self._pause:
            self._pause.cancel()
        while self._accept(BACKLOG):  # there is no room for them before others have ended
            await asyncio.sleep(DESCRIPTOR_PAUSE_S)
        if self._connecting:
            await asyncio.wait(self._connecting, timeout=LINGER_S)
        for task in self._connecting:  # a TLS handshake that is not over
            task.cancel()

    def _listen(self) -> None:
        self._loop.add_reader(self._listener, self._on_connections)

    def _on_connections(self) -> None:
        if due := self._share.due():
            self._take(due)
        else:
            self._pause_for(YIELD_S, self._take_rest)

    def _take_rest(self) -> None:
        """Take what the others have left."""
        self._listen()
        self._take(self._share.due() or self._share.most())

    def _take(self, most: int) -> None:
        if shortage := self._accept(most):
            closing = self._make_room(min(self._waiting(), self._share.most()))
            log.warning(
                "no new connections", why=shortage.strerror, connections=self._share.publish(), closing_idle=closing
            )
            self._pause_for(DESCRIPTOR_PAUSE_S, self._listen)

    def _waiting(self) -> int:
        """Connections that the kernel holds: of a listening socket, the packets that tcp_info has as unacknowledged."""
        return SendQueue.of(self._listener).unacked

    def _pause_for(self, pause_s: float, then: Callable[[], None]) -> None:
        self._loop.remove_reader(self._listener)
        self._pause = self._loop.call_later(pause_s, then)

    def _accept(self, most: int) -> OSError | None:
        """Accept so many of those that wait; the shortage of descriptors or memory, if that ended it."""
        for _ in range(most):
            try:
                connection, _ = self._listener.accept()
                connection.setblocking(False)
            except BlockingIOError:
                return None
            except OSError as error:
                if is_shortage(error):
                    return error
                continue  # an error of that one connection (accept(2)); the next may have none
            task = self._loop.create_task(self._connect(connection))
            self._connecting.add(task)
            task.add_done_callback(self._connecting.discard)
        return None

    async def _connect(self, connection: socket.socket) -> None:
        """Give the connection its protocol; what fails at that, as TLS may, costs the client its connection."""
        try:
            if self._get_tls is None:
                await self._loop.connect_accepted_socket(self._make_protocol, connection)
            else:
                await self._loop.connect_accepted_socket(
                    self._make_protocol,
                    connection,
                    ssl=self._get_tls(),
                    ssl_handshake_timeout=self._patience_s,
                    ssl_shutdown_timeout=self._goodbye_s,
                )
        except (OSError, MemoryError, asyncio.CancelledError) as error:
            tell = log.warning if is_shortage(error) else log.debug
            tell("no connection", why=in_words(error))
            connection.close()


def drop_new_connections(listener: socket.socket) -> None:
    """Have the kernel drop every SYN that comes to this listener; handshakes under way come to their end.

    A socket filter does it (classic BPF, socket(7)). Where there is none, a connection of the last moment is reset.
    """
    load_flags, test_syn, drop, keep = (0x30, 0, 0, 13), (0x45, 0, 1, 0x02), (0x06, 0, 0, 0), (0x06, 0, 0, 0xFFFFFFFF)
    program = b"".join(struct.pack("HBBI", *instruction) for instruction in (load_flags, test_syn, drop, keep))
    buffer = ctypes.create_string_buffer(program, len(program))
    with contextlib.suppress(OSError):
        listener.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, struct.pack("HP", 4, ctypes.addressof(buffer)))
