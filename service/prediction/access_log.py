"""The access log: a line for each request, in the format of the log and between its lines."""

import asyncio
import time
from collections.abc import Callable, Sequence
from functools import lru_cache
from random import random
from select import PIPE_BUF
from typing import Any

import orjson

from service.policy import ACCESS_LOG_INTERVAL_S, KEPT_VALUES
from service.prediction.response import Response, Timestamps
from service.process.logs import is_for_people, line_renderer, log_stream

NS_PER_S = 1_000_000_000
_OF_PROBLEM = ("code", "reason", "detail")

_Good = tuple[int, tuple[str, str, str, str, str], str, tuple[str, int] | None, int, int, str, str, int]
"""What the line of a request that ended well is made of; the response itself would keep more memory from being warm."""


class AccessLog:
    """Writes a line for each request that did not end well, and for a share of the others.

    The lines of what ended within ACCESS_LOG_INTERVAL_S are written together, and, as JSON, those of predictions that
    ended well are made then, one after the other: a line between two requests finds neither code nor memory warm and
    takes twice as long. None ever holds anything of the request's images but their number and size.
    """

    def __init__(self, success_share: float, log_format: str, write: Callable[[bytes], object] | None = None) -> None:
        """`write` takes whole lines, at most PIPE_BUF bytes of several; standard error unless it is given."""
        self._success_share, self._write = success_share, write or log_stream().write_lines
        self._render, self._is_json = line_renderer(log_format), not is_for_people(log_format)
        self._loop = asyncio.get_running_loop()
        self._noted: list[bytes | _Good] = []
        self._second_ns, self._second_text = -NS_PER_S, ""  # when it began, on the monotonic clock

    def note(self, response: Response, route: str, image_bytes: Sequence[int] = ()) -> None:
        """A response has been written; `image_bytes`: sizes of the encoded images, as far as they are known."""
        is_good = response.status < 400 and not response.rejected
        if is_good and random() >= self._success_share:  # noqa: S311 # nosec B311
            return
        if is_good and response.timings and self._is_json:
            self._add(
                (
                    response.timestamps.written_ns,
                    (response.method, route, response.model, response.version, response.key),
                    response.request_id,
                    response.client,
                    len(image_bytes),
                    sum(image_bytes),
                    response.timings,
                    response.trace_id,
                    response.batch_size,
                )
            )
        else:
            fields = self._fields(response, route, image_bytes, response.outcome, response.timestamps.total_ns)
            self._add(self._render(fields | _answer(response)))

    def note_cancelled(self, response: Response, route: str, image_bytes: Sequence[int] = ()) -> None:
        """The client left before its response."""
        took_ns = time.monotonic_ns() - response.timestamps.headers_ns
        self._add(self._render(self._fields(response, route, image_bytes, "cancelled", took_ns)))

    def _add(self, noted: bytes | _Good) -> None:
        self._noted.append(noted)
        if len(self._noted) == 1:
            self._loop.call_later(ACCESS_LOG_INTERVAL_S, self.flush)

    def flush(self) -> None:
        """Write what has been noted, in parts between which alone other processes' lines can come (pipe(7))."""
        all_noted, self._noted = self._noted, []
        part: list[bytes] = []
        size = 0
        for noted in all_noted:
            line = noted if isinstance(noted, bytes) else self._good_line(noted)
            if part and size + len(line) > PIPE_BUF:
                self._write(b"".join(part))
                part, size = [], 0
            part.append(line)
            size += len(line)
        if part:
            self._write(b"".join(part))

    def _fields(
        self, response: Response, route: str, image_bytes: Sequence[int], outcome: str, took_ns: int
    ) -> dict[str, Any]:
        fields = {
            "timestamp": self._time(time.monotonic_ns()),
            "level": "info",
            "event": "request",
            "request_id": response.request_id,
            "client": _address(response.client),
            **_asked(response.method, route, response.model, response.version, response.key),
            "outcome": outcome,
            "images": len(image_bytes),
            "bytes": sum(image_bytes),
            "timings_ms": _timings_ms(response.timestamps, took_ns),
        }
        if response.trace_id:
            fields["trace_id"] = response.trace_id
        return fields

    def _good_line(self, noted: _Good) -> bytes:
        """The line of a request that ended well, in half the time of others: most of it is text already."""
        written_ns, asked, request_id, client, images, size, timings, trace_id, batch_size = noted
        trace = f'"trace_id":"{trace_id}",' if trace_id else ""
        line = (
            f'{{"timestamp":"{self._time(written_ns)}","level":"info","event":"request",'
            f'"request_id":{orjson.dumps(request_id).decode()},"client":"{_address(client)}",'
            f'{_good_fields(*asked)},"images":{images},"bytes":{size},"timings_ms":{timings},'
            f'{trace}"status":200,"batch_size":{batch_size}}}\n'
        )
        return line.encode()

    def _time(self, monotonic_ns: int) -> str:
        """A moment of the monotonic clock in UTC; to format a whole one would take as long as the rest of the line.

        A step of the system's clock shows from the next second on.
        """
        if not 0 <= (rest_ns := monotonic_ns - self._second_ns) < NS_PER_S:
            second, rest_ns = divmod(monotonic_ns + time.time_ns() - time.monotonic_ns(), NS_PER_S)
            self._second_ns = monotonic_ns - rest_ns
            self._second_text = time.strftime("%Y-%m-%dT%H:%M:%S.", time.gmtime(second))
        return f"{self._second_text}{rest_ns // 1000:06d}Z"


def _asked(method: str, route: str, model: str, version: str, key: str) -> dict[str, str]:
    fields = {"method": method, "route": route, "model": model, "version": version}
    return fields | {"key": key} if key else fields


@lru_cache(KEPT_VALUES)
def _good_fields(*asked: str) -> str:
    """What is the same in the lines of many requests that end well, as it stands in a line."""
    return orjson.dumps(_asked(*asked) | {"outcome": "ok"})[1:-1].decode()


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
    spans_ns = {name: to_ns - from_ns for name, from_ns, to_ns in timestamps.passed()} | {"total": total_ns}
    return {name: ns // 1000 / 1000 for name, ns in spans_ns.items()}
