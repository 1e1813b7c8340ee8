"""Request heads that came before: on a busy connection every request begins with the same bytes."""

from service.parsing.head import Head
from service.policy import CACHED_HEAD_BYTES, CACHED_HEADS

HEAD_END = b"\r\n\r\n"


class HeadCache(dict[bytes, Head]):
    """The parser's results by the bytes that it was given, so that they need not be parsed again.

    A head means the same each time that a message begins with it. When there are too many the oldest is forgotten.
    """

    def remember(self, message: bytes, head: Head) -> None:
        """Remember the head of a message that has come whole; it declares its length, and the connection stays."""
        end = message.find(HEAD_END, 0, CACHED_HEAD_BYTES)
        length = head.content_length
        if end < 0 or length is None or len(message) != end + len(HEAD_END) + length:
            return
        if len(self) >= CACHED_HEADS:
            del self[next(iter(self))]
        self[message[: end + len(HEAD_END)]] = head
