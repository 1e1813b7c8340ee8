"""What is written in one turn of the event loop, as one piece."""

import asyncio


class JoinedWrites:
    """A connection's transport as FastAPI's answers see it: the head of one and the beginning of its body go together.

    Over TLS each write is a record of its own. Behind HAProxy with HTTP/2 a client that was still sending its body saw
    the head of an answer alone, sent no more, and lost what the answer says.
    """

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self._parts: list[bytes] = []

    def write(self, data: bytes) -> None:
        """Write this at the turn's end, or before."""
        if not self._parts:
            asyncio.get_running_loop().call_soon(self.flush)
        self._parts.append(data)

    def flush(self) -> None:
        """Write what waits."""
        if self._parts and not self._transport.is_closing():
            self._transport.write(b"".join(self._parts))
        self._parts.clear()

    def close(self) -> None:
        """Close behind all that was written."""
        self.flush()
        self._transport.close()

    def is_closing(self) -> bool:
        """Whether the connection ends."""
        return self._transport.is_closing()
