"""The log of refusals and errors: a line for each, and one a second for those that repeat."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import structlog

from service.errors import InternalError
from service.policy import FOLDED_IDS, FOLDING_S

log = structlog.get_logger()

_LEVELS = {500: "error", 503: "warning", 504: "warning"}  # by status; of all others "info"


class ProblemKind(NamedTuple):
    """What problems that are told together have in common."""

    model: str
    version: str
    status: int
    code: str
    reason: str | None


@dataclass(eq=False, slots=True)
class _Folded:
    """Problems of one kind since `since_s`, when the last line about it was written."""

    since_s: float
    count: int = 0
    detail: str = ""
    request_ids: list[str] = field(default_factory=list)


class ProblemLog:
    """Writes the first problem of a kind at once; `flush` writes one line for all that have followed."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._folded: dict[ProblemKind, _Folded] = {}

    def note(self, problem: ProblemKind, request_id: str, detail: str, error: Exception | None = None) -> None:
        """A request, or an image of one, was answered so; the error is for the traceback."""
        folded = self._folded.get(problem)
        if folded is None:
            self._folded[problem] = _Folded(self._clock())
            _write(problem, request_id=request_id, detail=detail, exc_info=error)
            return
        folded.count += 1
        folded.detail = detail
        if len(folded.request_ids) < FOLDED_IDS:
            folded.request_ids.append(request_id)

    def flush(self, *, all_: bool = False) -> None:
        """Write what was folded for long enough, or all of it."""
        now_s = self._clock()
        for problem, folded in list(self._folded.items()):
            if not all_ and now_s - folded.since_s < FOLDING_S:
                continue
            if folded.count:
                _write(problem, count=folded.count, request_ids=folded.request_ids, detail=folded.detail)
                self._folded[problem] = _Folded(now_s)
            else:
                del self._folded[problem]


def _write(problem: ProblemKind, **about: Any) -> None:  # noqa: ANN401 - fields of a log line
    fields = {name: value for name, value in (problem._asdict() | about).items() if value is not None}
    event = "request failed" if problem.status in (InternalError.status, 504) else "request refused"
    getattr(log, _LEVELS.get(problem.status, "info"))(event, **fields)


problem_log = ProblemLog()
"""The log of this process."""
