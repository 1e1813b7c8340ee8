"""What goes back to the client, and when its request passed each point of its way."""

import itertools
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson

from service.batching.image_task import Outcome
from service.errors import InternalError, ServiceError, ShedReason, Unavailable, problem
from service.metrics.stages import STAGES
from service.parsing.head import Head
from service.parsing.payload import Payload
from service.prediction.problem_log import ProblemKind, problem_log
from service.process.shortage import in_words

JSON, PROBLEM = "application/json", "application/problem+json"

# What is the same in every response is put together once: this halves the time that rendering one takes.
_TIMINGS = "{" + ",".join(f'"{name}":%s' for name in (*STAGES, "total")) + "}"
_SERVER_TIMING = ", ".join(f"{name};dur=%s" for name in (*STAGES, "total"))


@dataclass(slots=True)
class Timestamps:
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

    def passed(self) -> Iterator[tuple[str, int, int]]:
        """Each of `STAGES` up to the one in which the request ended, with its two stamps."""
        stamps = (self.headers_ns, self.body_ns, self.pixels_ns, self.taken_ns, self.done_ns, self.written_ns)
        for name, from_ns, to_ns in zip(STAGES, stamps, stamps[1:], strict=False):
            if not to_ns:
                return
            yield name, from_ns, to_ns

    @property
    def total_ns(self) -> int:
        """Nanoseconds from headers complete to response written."""
        return self.written_ns - self.headers_ns


@dataclass(slots=True)
class Response:
    """What goes back, and what is counted once it has gone.

    Attributes:
        tops: label and probability of the most probable class of each image.
        image_bytes: size of each encoded image, once all have an outcome.
        rejected: error codes of images that were refused.
        client: host and port of the other end.
        batch_size: of the largest batch that one of its images was in; 0 if none was in any.
        problem: the document of the error that the response is.
        timings: JSON of the milliseconds of each stage, as a good response tells them.
        trace_id: 32 digits, of the client's trace or our own; empty if there is none.
        key: name of the API key that was sent.

    """

    timestamps: Timestamps
    request_id: str
    method: str
    model: str = ""
    version: str = ""
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    shed: ShedReason | None = None
    tops: list[tuple[str, float]] = field(default_factory=list)
    image_bytes: Sequence[int] = ()
    rejected: list[str] = field(default_factory=list)
    client: tuple[str, int] | None = None
    batch_size: int = 0
    timings: str = ""
    problem: dict[str, Any] | None = None
    trace_id: str = ""
    key: str = ""

    def succeed(self, outcomes: Sequence[Outcome], labels: Sequence[str], payload: Payload | None = None) -> None:
        """Fill in what was found in each image, and the stage times as far as they are known before the writing.

        `payload`: of a body that is not the image itself.
        """
        files = None if payload is None else payload.files
        found = [self._render(outcome, labels) for outcome in outcomes]
        self.note_timings()
        document: dict[str, Any] = {"request_id": self.request_id, "model": self.model, "version": self.version}
        if files is None:
            document |= found[0]
        else:
            document["results"] = [
                {"file": file} | one if file else one for file, one in zip(files, found, strict=True)
            ]
        document["timings_ms"] = orjson.Fragment(self.timings)
        self.body = orjson.dumps(document)
        self.headers["content-type"] = JSON

    def note_timings(self) -> None:
        """Milliseconds of each stage and of all, as far as they are known before the writing; they become a header."""
        timestamps = self.timestamps
        timings_ms = tuple([f"{ns / 1e6:.3f}" for ns in (*timestamps.stages_ns(), timestamps.total_ns)])
        self.timings = _TIMINGS % timings_ms
        self.headers["server-timing"] = _SERVER_TIMING % timings_ms

    def _render(self, outcome: Outcome, labels: Sequence[str]) -> dict[str, Any]:
        if isinstance(outcome, ServiceError):
            return self._describe(outcome)
        self.tops.append((labels[outcome.indices[0]], outcome.probabilities[0]))
        self.batch_size = max(self.batch_size, outcome.batch_size)
        ranked = zip(outcome.indices, outcome.probabilities, strict=True)
        predictions = [{"label": labels[index], "index": index, "probability": p} for index, p in ranked]
        return {"predictions": predictions, "batch_size": outcome.batch_size}

    def fail(self, error: Exception) -> None:
        """Fill in an error."""
        document = self.problem = self._describe(error)
        if isinstance(error, ServiceError):
            self.headers |= error.headers
            self.key = self.key or error.key
        if isinstance(error, Unavailable):
            self.shed = error.reason
        self.status = document["status"]
        self.headers["content-type"] = PROBLEM
        self.body = orjson.dumps(document)

    def _describe(self, error: Exception) -> dict[str, Any]:
        """The error's problem document; it goes to the log, an internal one with its traceback."""
        document = problem(error, self.request_id)
        kind = ProblemKind(self.model, self.version, document["status"], document["code"], document.get("reason"))
        cause = error if kind.status == InternalError.status else None
        problem_log.note(kind, self.request_id, in_words(error), cause)
        return document

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


_ids = _make_ids()  # starts when the first id is asked for, and so after the fork


def begin_response(
    head: Head, headers_ns: int, client: tuple[str, int] | None = None, kind: type[Response] = Response
) -> Response:
    """A response of this kind with what every one carries: the request's id and its trace."""
    request_id = head.request_id or next(_ids)
    response = kind(
        Timestamps(headers_ns), request_id, head.method, headers={"x-request-id": request_id}, client=client
    )
    if trace := head.trace:
        response.headers["traceparent"] = trace
        response.trace_id = trace[3:35]
    return response
