"""Request heads that have come before: on a busy connection every request begins with the same bytes."""

from service.prediction.head import Head

MAX_BYTES = 1024  # of a head that is remembered
MAX_HEADS = 256

_END = b"\r\n\r\n"


class Heads:
    """The parser's results by the bytes that it was given, so that they need not be parsed again.

    A head means the same each time that a message begins with it. Whoever varies the head is parsed each time: the
    oldest is forgotten when there are too many.
    """

    def __init__(self) -> None:
        self._heads: dict[bytes, tuple[Head, int]] = {}  # with the bytes of the body

    def remember(self, message: bytes, head: Head) -> None:
        """Remember the head of a message that has come whole; it declares its length, and the connection stays."""
        end = message.find(_END, 0, MAX_BYTES)
        length = head.content_length
        if end < 0 or length is None or len(message) != end + len(_END) + length:
            return
        if len(self._heads) >= MAX_HEADS:
            del self._heads[next(iter(self._heads))]
        self._heads[message[: end + len(_END)]] = head, length

    def split(self, data: bytes) -> tuple[Head, bytes] | None:
        """The head and the body, if this is exactly one message whose head is known."""
        end = data.find(_END, 0, MAX_BYTES) + len(_END)
        known = self._heads.get(data[:end])
        if known is None or len(data) != end + known[1]:
            return None
        return known[0], data[end:]
