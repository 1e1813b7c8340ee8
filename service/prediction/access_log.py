"""The access log: a line for each request, in the format of the log and between its lines."""

import asyncio
import contextlib
import os
import sys
import time
from collections.abc import Callable, Sequence
from random import random
from select import PIPE_BUF
from typing import Any, NamedTuple

from service.logs import LineRenderer
from service.policy import ACCESS_LOG_INTERVAL_S
from service.prediction.response import Response, Timestamps

_OF_PROBLEM = ("code", "reason", "detail")


class _Ended(NamedTuple):
    """A request that is to have a line."""

    response: Response
    route: str
    image_bytes: Sequence[int]
    took_ns: int
    at_ns: int  # since the epoch
    is_cancelled: bool = False


class AccessLog:
    """Writes a line for each request that did not end well, and for a share of the others.

    The lines of what ended within ACCESS_LOG_INTERVAL_S are made and written together. None ever holds anything of the
    request's images but their number and size.
    """

    def __init__(
        self, success_share: float, render: LineRenderer, write: Callable[[bytes], object] | None = None
    ) -> None:
        """`write` takes whole lines, at most PIPE_BUF bytes of several; standard error unless it is given."""
        self._success_share, self._render, self._write = success_share, render, write or _write_to_stderr
        self._loop = asyncio.get_running_loop()
        self._ended: list[_Ended] = []
        self._second, self._second_text = 0, ""

    def note(self, response: Response, route: str, image_bytes: Sequence[int] = ()) -> None:
        """A response has been written; `image_bytes`: sizes of the encoded images, as far as they are known."""
        if response.status < 400 and not response.rejected and random() >= self._success_share:  # noqa: S311 # nosec B311
            return
        self._add(_Ended(response, route, image_bytes, response.timestamps.total_ns, time.time_ns()))

    def note_cancelled(self, response: Response, route: str, image_bytes: Sequence[int] = ()) -> None:
        """The client left before its response."""
        took_ns = time.monotonic_ns() - response.timestamps.headers_ns
        self._add(_Ended(response, route, image_bytes, took_ns, time.time_ns(), is_cancelled=True))

    def _add(self, ended: _Ended) -> None:
        self._ended.append(ended)
        if len(self._ended) == 1:
            self._loop.call_later(ACCESS_LOG_INTERVAL_S, self.flush)

    def flush(self) -> None:
        """Write what has been noted, in parts between which alone other processes' lines can come (pipe(7))."""
        noted, self._ended = self._ended, []
        part: list[bytes] = []
        size = 0
        for line in map(self._line, noted):
            if part and size + len(line) > PIPE_BUF:
                self._write(b"".join(part))
                part, size = [], 0
            part.append(line)
            size += len(line)
        if part:
            self._write(b"".join(part))

    def _line(self, ended: _Ended) -> bytes:
        response = ended.response
        fields = {
            "timestamp": self._time(ended.at_ns),
            "level": "info",
            "event": "request",
            "request_id": response.request_id,
            "client": _address(response.client),
            "method": response.method,
            "route": ended.route,
            "model": response.model,
            "version": response.version,
            "outcome": "cancelled" if ended.is_cancelled else response.outcome,
            "images": len(ended.image_bytes),
            "bytes": sum(ended.image_bytes),
            "timings_ms": _timings_ms(response.timestamps, ended.took_ns),
        }
        if response.trace_id:
            fields["trace_id"] = response.trace_id
        if response.key:
            fields["key"] = response.key
        if not ended.is_cancelled:
            fields |= _answer(response)
        return self._render(fields)

    def _time(self, ns: int) -> str:
        """The time in UTC; to format a whole one would take as long as the rest of the line."""
        second = ns // 1_000_000_000
        if second != self._second:
            self._second, self._second_text = second, time.strftime("%Y-%m-%dT%H:%M:%S.", time.gmtime(second))
        return f"{self._second_text}{ns // 1000 % 1_000_000:06d}Z"


def _answer(response: Response) -> dict[str, Any]:
    """What is told of a request that was answered."""
    fields: dict[str, Any] = {"status": response.status}
    if response.batch_size:
        fields["batch_size"] = response.batch_size
    if problem := response.problem:
        fields |= {name: problem[name] for name in _OF_PROBLEM if name in problem}
    elif response.rejected:
        fields["rejected"] = response.rejected
    return fields


def _address(client: tuple[str, int] | None) -> str:
    if client is None:
        return ""
    host, port = client
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _timings_ms(timestamps: Timestamps, total_ns: int) -> dict[str, float]:
    """Milliseconds of each stage that the request has passed, and of all."""
    read, decode, queue, inference, respond = timestamps.stages_ns()
    total_ms = total_ns // 1000 / 1000
    if timestamps.done_ns:
        return {
            "read": read // 1000 / 1000,
            "decode": decode // 1000 / 1000,
            "queue": queue // 1000 / 1000,
            "inference": inference // 1000 / 1000,
            "respond": respond // 1000 / 1000,
            "total": total_ms,
        }
    timings_ms = {"total": total_ms}
    if timestamps.body_ns:
        timings_ms["read"] = read // 1000 / 1000
    if timestamps.pixels_ns:
        timings_ms["decode"] = decode // 1000 / 1000
    return timings_ms


def _write_to_stderr(lines: bytes) -> None:
    """What cannot be written is lost, as with any line of the log."""
    with contextlib.suppress(OSError):
        os.write(sys.stderr.fileno(), lines)
