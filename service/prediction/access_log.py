"""The access log: a line for each request, in the format of the log and between its lines."""

import asyncio
import contextlib
import os
import sys
import time
from collections.abc import Callable, Sequence
from random import random
from select import PIPE_BUF
from typing import Any

from service.logs import LineRenderer
from service.prediction.response import Response, Timestamps

_OF_PROBLEM = ("code", "reason", "detail")


class AccessLog:
    """Writes a line for each request that did not end well, and for a share of the others.

    The lines of one turn of the event loop are written at its end, together. A request's line never holds anything of
    its images but their number and size.
    """

    def __init__(
        self, success_share: float, render: LineRenderer, write: Callable[[bytes], object] | None = None
    ) -> None:
        """`write` takes whole lines, at most PIPE_BUF bytes of several; standard error unless it is given."""
        self._success_share, self._render, self._write = success_share, render, write or _write_to_stderr
        self._loop = asyncio.get_running_loop()
        self._lines: list[bytes] = []
        self._second, self._second_text = 0, ""

    def note(self, response: Response, route: str, image_bytes: Sequence[int] = ()) -> None:
        """A response has been written; `image_bytes`: sizes of the encoded images, as far as they are known."""
        if response.status < 400 and not response.rejected and random() >= self._success_share:  # noqa: S311 # nosec B311
            return
        fields = self._fields(response, route, image_bytes, response.outcome, response.timestamps.total_ns)
        fields["status"] = response.status
        if response.batch_size:
            fields["batch_size"] = response.batch_size
        if problem := response.problem:
            fields |= {name: problem[name] for name in _OF_PROBLEM if name in problem}
        elif response.rejected:
            fields["rejected"] = response.rejected
        self._add(fields)

    def note_cancelled(self, response: Response, route: str, image_bytes: Sequence[int] = ()) -> None:
        """The client left before its response."""
        took_ns = time.monotonic_ns() - response.timestamps.headers_ns
        self._add(self._fields(response, route, image_bytes, "cancelled", took_ns))

    def flush(self) -> None:
        """Write what has been noted, in parts between which alone other processes' lines can come (pipe(7))."""
        lines, self._lines = self._lines, []
        part: list[bytes] = []
        size = 0
        for line in lines:
            if part and size + len(line) > PIPE_BUF:
                self._write(b"".join(part))
                part, size = [], 0
            part.append(line)
            size += len(line)
        if part:
            self._write(b"".join(part))

    def _fields(
        self, response: Response, route: str, image_bytes: Sequence[int], outcome: str, total_ns: int
    ) -> dict[str, Any]:
        fields = {
            "timestamp": self._now(),
            "level": "info",
            "event": "request",
            "request_id": response.request_id,
            "client": _address(response.client),
            "method": response.method,
            "route": route,
            "model": response.model,
            "version": response.version,
            "outcome": outcome,
            "images": len(image_bytes),
            "bytes": sum(image_bytes),
            "timings_ms": _timings_ms(response.timestamps, total_ns),
        }
        if response.trace_id:
            fields["trace_id"] = response.trace_id
        if response.key:
            fields["key"] = response.key
        return fields

    def _add(self, fields: dict[str, Any]) -> None:
        self._lines.append(self._render(fields))
        if len(self._lines) == 1:
            self._loop.call_soon(self.flush)

    def _now(self) -> str:
        """The time in UTC; to format a whole one would take as long as the rest of the line."""
        ns = time.time_ns()
        second = ns // 1_000_000_000
        if second != self._second:
            self._second, self._second_text = second, time.strftime("%Y-%m-%dT%H:%M:%S.", time.gmtime(second))
        return f"{self._second_text}{ns // 1000 % 1_000_000:06d}Z"


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
