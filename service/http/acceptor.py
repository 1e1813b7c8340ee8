"""The listening socket, from its first connection to its last."""

import asyncio
import contextlib
import ctypes
import errno
import resource
import socket
import struct
from collections.abc import Callable, Sized

import structlog

log = structlog.get_logger()

BACKLOG = 65535  # connections that the kernel holds until they are accepted; it allows net.core.somaxconn, often 4096
HANDSHAKE_S = 0.1  # time for a handshake that has begun to end
LEAST_ACCEPTS = 16  # connections that a turn of the event loop may take up, however few there are already
SHORTAGE_S = 0.5  # before the next try, when there are no descriptors or no memory for a connection

_SHORTAGES = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)
_SO_ATTACH_FILTER = 26  # socket(7)


def allow_descriptors() -> None:
    """Let this process and its children have as many connections open as the hard limit allows, often 1024 at first."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def listen(host: str, port: int) -> socket.socket:
    """The listening socket; OSError that says what to do when the address is taken or not ours.

    It never blocks: the API processes share it, and another one may have taken up the connection that was there.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listener = socket.create_server((host, port), family=family, backlog=BACKLOG)
    except OSError as error:
        raise OSError(f"cannot listen on {host}:{port}: {error.strerror}; choose another with --port") from error
    listener.setblocking(False)
    return listener


class Acceptor:
    """Takes up the connections to a listening socket in one event loop, each with a protocol of its own.

    `connections` are those that this process has. A turn of the loop takes up a quarter more: few at first, so that the
    other processes that listen get some, too, and many when turns are long because they serve many.
    """

    def __init__(
        self, listener: socket.socket, make_protocol: Callable[[], asyncio.Protocol], connections: Sized
    ) -> None:
        self._listener, self._make_protocol, self._connections = listener, make_protocol, connections
        self._loop = asyncio.get_running_loop()
        self._connecting: set[asyncio.Task[object]] = set()
        self._pause: asyncio.TimerHandle | None = None
        self._listen()

    async def close(self) -> None:
        """Take up whoever has been let in, and nobody any more."""
        refuse_newcomers(self._listener)
        await asyncio.sleep(HANDSHAKE_S)
        self._loop.remove_reader(self._listener)
        if self._pause:
            self._pause.cancel()
        self._take_up(BACKLOG)
        await asyncio.gather(*self._connecting, return_exceptions=True)

    def _listen(self) -> None:
        self._loop.add_reader(self._listener, self._on_newcomers)

    def _on_newcomers(self) -> None:
        if shortage := self._take_up(max(LEAST_ACCEPTS, len(self._connections) // 4)):
            self._loop.remove_reader(self._listener)
            self._pause = self._loop.call_later(SHORTAGE_S, self._listen)
            log.warning("no new connections", why=shortage.strerror, connections=len(self._connections))

    def _take_up(self, most: int) -> OSError | None:
        """Take up so many of those that wait; what there is not enough of for another one, if it ended by that."""
        for _ in range(most):
            try:
                connection, _ = self._listener.accept()
            except BlockingIOError:
                return None
            except OSError as error:
                if error.errno in _SHORTAGES:
                    return error
                continue  # an error of that one connection (accept(2)); the next may have none
            connection.setblocking(False)
            task = self._loop.create_task(self._loop.connect_accepted_socket(self._make_protocol, connection))
            self._connecting.add(task)
            task.add_done_callback(self._connecting.discard)
        return None


def refuse_newcomers(listener: socket.socket) -> None:
    """Have the kernel drop every SYN that comes to this listener; handshakes under way come to their end.

    A socket filter does it (classic BPF, socket(7)). Where there is none, who comes in the last moment is reset.
    """
    load_flags, test_syn, drop, keep = (0x30, 0, 0, 13), (0x45, 0, 1, 0x02), (0x06, 0, 0, 0), (0x06, 0, 0, 0xFFFFFFFF)
    program = b"".join(struct.pack("HBBI", *instruction) for instruction in (load_flags, test_syn, drop, keep))
    buffer = ctypes.create_string_buffer(program, len(program))
    with contextlib.suppress(OSError):
        listener.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, struct.pack("HP", 4, ctypes.addressof(buffer)))
