"""HTTP spoken by hand, for what no client library would send."""

import socket
from dataclasses import dataclass
from types import TracebackType
from typing import BinaryIO, Self

from tests.service.served import DEADLINE_S


@dataclass(frozen=True, slots=True)
class Answer:
    """One HTTP response."""

    status: int
    headers: dict[str, str]
    body: bytes


class Wire:
    """A connection."""

    def __init__(self, address: tuple[str, int]) -> None:
        self.socket = socket.create_connection(address, timeout=DEADLINE_S)
        self._reader = self.socket.makefile("rb")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Leave."""
        self._reader.close()
        self.socket.close()

    def send(self, data: bytes) -> None:
        """Send bytes as they are."""
        self.socket.sendall(data)

    def answer(self, to: str = "POST") -> Answer:
        """The next response."""
        return read_answer(self._reader, to)

    def ended(self) -> bool:
        """Whether nothing more comes; waits for the server to close, which must not be a reset."""
        return self._reader.read(1) == b""


def read_answer(reader: BinaryIO, to: str = "POST") -> Answer:
    """The next response of a stream; one to HEAD has no body, nor has one that is only provisional."""
    version, status = reader.readline().split(b" ", 2)[:2]
    assert version == b"HTTP/1.1"
    lines = iter(lambda: reader.readline().decode("latin-1").rstrip("\r\n"), "")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    length = 0 if to == "HEAD" or status[:1] == b"1" else int(headers["content-length"])
    return Answer(int(status), headers, reader.read(length))


def post(body: bytes, path: str = "/predict", *headers: str, method: str = "POST") -> bytes:
    """A request, from its first line to the end of its body."""
    lines = [f"{method} {path} HTTP/1.1", "Host: server", f"Content-Length: {len(body)}", *headers]
    return "".join(f"{line}\r\n" for line in [*lines, ""]).encode("latin-1") + body


def get(path: str, *headers: str, method: str = "GET") -> bytes:
    """A request without a body."""
    return "".join(f"{line}\r\n" for line in [f"{method} {path} HTTP/1.1", "Host: server", *headers, ""]).encode()
