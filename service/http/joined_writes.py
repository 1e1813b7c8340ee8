"""Two writes of one turn of the event loop, as one."""

import asyncio


class JoinedWrites:
    """A connection's transport as FastAPI's answers see it: head and body of one go together, if they come in one turn.

    Over TLS each write is a record of its own. Behind HAProxy with HTTP/2 a client that was still sending its body saw
    the head of an answer alone, sent no more, and lost what the answer says.
    """

    __slots__ = ("_transport", "_waiting")

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self._waiting = b""

    def write(self, data: bytes) -> None:
        """Hold back the first write of a turn and send it with the second; later ones wait in the transport alone."""
        if self._waiting:
            self._waiting += data
            self.flush()
        elif data:
            self._waiting = data
            asyncio.get_running_loop().call_soon(self.flush)

    def flush(self) -> None:
        """Write what waits, at the turn's end at the latest."""
        data, self._waiting = self._waiting, b""
        if data and not self._transport.is_closing():
            self._transport.write(data)

    def close(self) -> None:
        """Close behind all that was written."""
        self.flush()
        self._transport.close()

    def is_closing(self) -> bool:
        """Whether the connection ends."""
        return self._transport.is_closing()
