"""What a client has taken of what was sent to it, and what the kernel still holds for it."""

import array
import fcntl
import socket
import struct
import termios
from typing import NamedTuple

_ACKED = struct.Struct("120xQ")  # tcpi_bytes_acked in struct tcp_info, since Linux 4.1


class SendQueue(NamedTuple):
    """The sending side of a TCP connection, in bytes.

    Attributes:
        left: that the kernel holds until the client has them.
        taken: that the client has, since the connection was made.

    """

    left: int
    taken: int

    @classmethod
    def of(cls, fd: int) -> "SendQueue":
        """As it is now for this descriptor; OSError if that is no TCP connection."""
        left = array.array("i", [0])
        fcntl.ioctl(fd, termios.TIOCOUTQ, left)
        connection = socket.socket(fileno=fd)
        try:
            info = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _ACKED.size)
        finally:
            connection.detach()
        return cls(left[0], *_ACKED.unpack(info))
