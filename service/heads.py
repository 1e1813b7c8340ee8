"""Request heads that have come before: on a busy connection every request begins with the same bytes."""

from collections.abc import Mapping
from typing import NamedTuple

from service.target import Target

MAX_BYTES = 1024  # of a head that is remembered
MAX_HEADS = 256

_END = b"\r\n\r\n"


class Head(NamedTuple):
    """What the HTTP parser made of a head: a prediction with a declared length, after which the connection stays."""

    method: str
    target: Target
    query: bytes
    headers: Mapping[bytes, bytes]
    content_length: int


class Heads:
    """The parser's results by the bytes that it was given, so that they need not be parsed again.

    A head means the same each time that a message begins with it. Whoever varies the head is parsed each time: the
    oldest is forgotten when there are too many.
    """

    def __init__(self) -> None:
        self._heads: dict[bytes, Head] = {}

    def remember(self, message: bytes, head: Head) -> None:
        """Remember the head of a message that has come whole."""
        end = message.find(_END, 0, MAX_BYTES)
        if end < 0 or len(message) != end + len(_END) + head.content_length:
            return
        if len(self._heads) >= MAX_HEADS:
            del self._heads[next(iter(self._heads))]
        self._heads[message[: end + len(_END)]] = head

    def split(self, data: bytes) -> tuple[Head, bytes] | None:
        """The head and the body, if this is exactly one message whose head is known."""
        end = data.find(_END, 0, MAX_BYTES) + len(_END)
        head = self._heads.get(data[:end])
        if head is None or len(data) != end + head.content_length:
            return None
        return head, data[end:]
