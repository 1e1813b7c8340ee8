"""What a client has taken of what was sent to it, and what the kernel still holds for it."""

import socket
import struct
from typing import NamedTuple, Protocol

# Of struct tcp_info, since Linux 4.6: tcpi_unacked, tcpi_bytes_acked and tcpi_notsent_bytes.
_INFO = struct.Struct("24xI92xQ16xI")


class TcpSocket(Protocol):
    """A TCP connection's socket, or what a transport of uvloop has of it."""

    def getsockopt(self, level: int, option: int, size: int, /) -> bytes:
        """An option's value."""
        ...


class SendQueue(NamedTuple):
    """The sending side of a TCP connection.

    Attributes:
        unacked: packets on their way.
        taken: bytes that the client has, since the connection was made.
        unsent: bytes for which there is no room on the way.

    """

    unacked: int
    taken: int
    unsent: int

    @classmethod
    def of(cls, connection: TcpSocket) -> "SendQueue":
        """The queue of this socket now; OSError if it is no TCP connection."""
        return cls(*_INFO.unpack(connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _INFO.size)))

    @property
    def is_empty(self) -> bool:
        """Whether the client has all; False where the kernel tells nothing."""
        return self.taken > 0 and not (self.unacked or self.unsent)
