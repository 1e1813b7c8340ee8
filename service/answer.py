"""What goes back to the client, and when it passed each point of its way."""

import re
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field

import orjson
import structlog

from service.errors import InferenceFailed, ServiceError, ShedReason, Unavailable, problem

log = structlog.get_logger()

JSON, PROBLEM = "application/json", "application/problem+json"

_REQUEST_ID = re.compile(r"[!-~]{1,128}")
_TRACEPARENT = re.compile(r"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}")


@dataclass(slots=True)
class Journey:
    """When a request passed each point of its way: ns of the monotonic clock, the same in every process."""

    headers_ns: int
    body_ns: int = 0
    pixels_ns: int = 0
    taken_ns: int = 0
    done_ns: int = 0
    written_ns: int = 0

    @classmethod
    def begin(cls) -> "Journey":
        """The headers are complete now."""
        return cls(time.monotonic_ns())

    def stages_s(self) -> dict[str, float]:
        """Seconds of each stage, each between its own two stamps."""
        return {
            "read": (self.body_ns - self.headers_ns) / 1e9,
            "decode": (self.pixels_ns - self.body_ns) / 1e9,
            "queue": (self.taken_ns - self.pixels_ns) / 1e9,
            "inference": (self.done_ns - self.taken_ns) / 1e9,
            "respond": (self.written_ns - self.done_ns) / 1e9,
        }

    @property
    def total_s(self) -> float:
        """Seconds from headers complete to answer written."""
        return (self.written_ns - self.headers_ns) / 1e9


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

    @property
    def outcome(self) -> str:
        """How the request ended, as the metrics call it."""
        if self.status < 400:
            return "ok"
        if self.status < 500:
            return "client_error"
        return {503: "shed", 504: "expired"}.get(self.status, "server_error")


def begin_answer(method: str, headers: Mapping[str, str], journey: Journey) -> Answer:
    """An answer with what every answer carries: the request's id and its trace."""
    given = headers.get("x-request-id", "")
    request_id = given if _REQUEST_ID.fullmatch(given) else uuid.uuid4().hex
    answer = Answer(journey, request_id, method, headers={"x-request-id": request_id})
    if _TRACEPARENT.fullmatch(trace := headers.get("traceparent", "")):
        answer.headers["traceparent"] = trace
    return answer


def fail(answer: Answer, error: Exception) -> None:
    """Make the answer tell of an error; what is our fault goes to the log with its traceback."""
    document = problem(error, answer.request_id)
    if isinstance(error, ServiceError):
        answer.headers |= error.headers
    if isinstance(error, Unavailable):
        answer.shed = error.reason
    answer.status = int(str(document["status"]))
    if answer.status == InferenceFailed.status:
        log.error("request failed", request_id=answer.request_id, exc_info=error)
    answer.headers["content-type"] = PROBLEM
    answer.body = orjson.dumps(document)
