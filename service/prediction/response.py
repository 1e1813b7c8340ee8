"""What goes back to the client, and when it passed each point of its way."""

import itertools
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import orjson
import structlog

from service.errors import InternalError, ServiceError, ShedReason, Unavailable, problem
from service.prediction.head import Head

log = structlog.get_logger()

JSON, PROBLEM = "application/json", "application/problem+json"

STAGES = ("read", "decode", "queue", "inference", "respond")

# What is the same in every answer is put together once: this halves the time that an answer takes to render.
_TIMINGS = "{" + ",".join(f'"{name}":%s' for name in (*STAGES, "total")) + "}"
_SERVER_TIMING = ", ".join(f"{name};dur=%s" for name in (*STAGES, "total"))


@dataclass(slots=True)
class Journey:
    """When a request passed each point of its way: ns of the monotonic clock, the same in every process."""

    headers_ns: int
    body_ns: int = 0
    pixels_ns: int = 0
    taken_ns: int = 0
    done_ns: int = 0
    written_ns: int = 0

    def stages_ns(self) -> tuple[int, int, int, int, int]:
        """Nanoseconds of each of `STAGES`, each between its own two stamps."""
        return (
            self.body_ns - self.headers_ns,
            self.pixels_ns - self.body_ns,
            self.taken_ns - self.pixels_ns,
            self.done_ns - self.taken_ns,
            self.written_ns - self.done_ns,
        )

    @property
    def total_ns(self) -> int:
        """Nanoseconds from headers complete to answer written."""
        return self.written_ns - self.headers_ns


@dataclass(slots=True)
class Answer:
    """What goes back, and what is counted once it has gone."""

    journey: Journey
    request_id: str
    to_method: str
    model: str = ""
    version: str = ""
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    shed: ShedReason | None = None
    tops: list[tuple[str, float]] = field(default_factory=list)  # label and probability of each image's first class

    def succeed(self, found: dict[str, Any]) -> None:
        """Make the answer tell what was found, and how long each stage took as far as can be told inside it."""
        self.journey.written_ns = time.monotonic_ns()
        timings_ms = tuple([f"{ns / 1e6:.3f}" for ns in (*self.journey.stages_ns(), self.journey.total_ns)])
        document = {"request_id": self.request_id, "model": self.model, "version": self.version} | found
        document["timings_ms"] = orjson.Fragment(_TIMINGS % timings_ms)
        self.body = orjson.dumps(document)
        self.headers["content-type"] = JSON
        self.headers["server-timing"] = _SERVER_TIMING % timings_ms

    @property
    def outcome(self) -> str:
        """How the request ended, as the metrics call it."""
        if self.status < 400:
            return "ok"
        if self.status < 500:
            return "client_error"
        return {503: "shed", 504: "expired"}.get(self.status, "server_error")


def _make_ids() -> Iterator[str]:
    """Unique to the process by the first half; asking the kernel for each id would cost a system call."""
    process = os.urandom(8).hex()
    for count in itertools.count():
        yield f"{process}{count:016x}"


_ids = _make_ids()  # begins when the first id is asked for, and so after the fork


def begin_answer(head: Head, journey: Journey) -> Answer:
    """An answer with what every answer carries: the request's id and its trace."""
    request_id = head.request_id or next(_ids)
    answer = Answer(journey, request_id, head.method, headers={"x-request-id": request_id})
    if head.trace:
        answer.headers["traceparent"] = head.trace
    return answer


def fail(answer: Answer, error: Exception) -> None:
    """Make the answer tell of an error; what is our fault goes to the log with its traceback."""
    document = problem(error, answer.request_id)
    if isinstance(error, ServiceError):
        answer.headers |= error.headers
    if isinstance(error, Unavailable):
        answer.shed = error.reason
    answer.status = int(str(document["status"]))
    if answer.status == InternalError.status:
        log.error("request failed", request_id=answer.request_id, exc_info=error)
    answer.headers["content-type"] = PROBLEM
    answer.body = orjson.dumps(document)
