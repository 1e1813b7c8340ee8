"""The listening socket, from its first connection to its last."""

import asyncio
import contextlib
import ctypes
import select
import socket
import struct

BACKLOG = 2048  # connections that the kernel holds until they are accepted
HANDSHAKE_S = 0.1  # time for a handshake that has begun to end
EMPTY_BACKLOG_S = 0.5  # the longest that stopping goes on accepting

_SO_ATTACH_FILTER = 26  # socket(7)


def listen(host: str, port: int) -> socket.socket:
    """The listening socket; OSError that says what to do when the address is taken or not ours.

    It never blocks: its duplicates would do so too, and with them those of every other API process.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listener = socket.create_server((host, port), family=family, backlog=BACKLOG)
    except OSError as error:
        raise OSError(f"cannot listen on {host}:{port}: {error.strerror}; choose another with --port") from error
    listener.setblocking(False)
    return listener


async def empty(listeners: list[socket.socket]) -> None:
    """Wait until whoever has been let in is accepted: closing a listener would reset their connections."""
    for listener in listeners:
        refuse_newcomers(listener)
    await asyncio.sleep(HANDSHAKE_S)
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(EMPTY_BACKLOG_S):
            while any(select.select(listeners, [], [], 0)[0]):
                await asyncio.sleep(0.001)


def refuse_newcomers(listener: socket.socket) -> None:
    """Have the kernel drop every SYN that comes to this listener; handshakes under way come to their end.

    A socket filter does it (classic BPF, socket(7)). Where there is none, who comes in the last moment is reset.
    """
    load_flags, test_syn, drop, keep = (0x30, 0, 0, 13), (0x45, 0, 1, 0x02), (0x06, 0, 0, 0), (0x06, 0, 0, 0xFFFFFFFF)
    program = b"".join(struct.pack("HBBI", *instruction) for instruction in (load_flags, test_syn, drop, keep))
    buffer = ctypes.create_string_buffer(program, len(program))
    with contextlib.suppress(OSError):
        listener.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, struct.pack("HP", 4, ctypes.addressof(buffer)))
