"""Refusals and errors in the log: the first of a kind at once, those that repeat together."""

import pytest
import structlog

from service.policy import FOLDED_IDS, FOLDING_S
from service.prediction.problem_log import ProblemKind, ProblemLog

FULL = ProblemKind("plain", "2", 503, "unavailable", "full")
OTHERS = [
    FULL._replace(model="colour"),
    FULL._replace(reason="loading"),
    ProblemKind("plain", "2", 413, "too_large", None),
]


class Clock:
    now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


def test_the_first_of_a_kind_is_told_at_once_and_the_rest_together() -> None:
    clock = Clock()
    problems = ProblemLog(clock)
    with structlog.testing.capture_logs() as lines:
        for n in range(1000):
            problems.note(FULL, f"id-{n}", f"{n} places")
            problems.flush()
        assert lines == [
            {
                "event": "request refused",
                "log_level": "warning",
                "model": "plain",
                "version": "2",
                "status": 503,
                "code": "unavailable",
                "reason": "full",
                "request_id": "id-0",
                "detail": "0 places",
            }
        ]
        clock.now_s += FOLDING_S
        problems.flush()
        assert (lines[1]["count"], lines[1]["detail"]) == (999, "999 places")
        assert lines[1]["request_ids"] == [f"id-{n}" for n in range(1, FOLDED_IDS + 1)]
        problems.note(FULL, "late", "")
        problems.flush()
        assert len(lines) == 2  # a second has not passed since
        problems.flush(all_=True)
        assert lines[2]["request_ids"] == ["late"]


def test_a_kind_that_did_not_repeat_is_forgotten() -> None:
    clock = Clock()
    problems = ProblemLog(clock)
    with structlog.testing.capture_logs() as lines:
        for n in range(3):
            problems.note(FULL, f"id-{n}", "")
            clock.now_s += FOLDING_S
            problems.flush()
    assert [line["request_id"] for line in lines] == ["id-0", "id-1", "id-2"]


@pytest.mark.parametrize("other", OTHERS)
def test_kinds_do_not_hide_each_other(other: ProblemKind) -> None:
    problems = ProblemLog(Clock())
    with structlog.testing.capture_logs() as lines:
        problems.note(FULL, "one", "")
        problems.note(other, "two", "")
    assert [line["request_id"] for line in lines] == ["one", "two"]


@pytest.mark.parametrize(
    ("status", "event", "level"),
    [
        (400, "request refused", "info"),
        (503, "request refused", "warning"),
        (504, "request failed", "warning"),
        (500, "request failed", "error"),
    ],
)
def test_how_bad_it_is(status: int, event: str, level: str) -> None:
    problems = ProblemLog(Clock())
    with structlog.testing.capture_logs() as lines:
        problems.note(FULL._replace(status=status), "one", "", ZeroDivisionError() if status == 500 else None)
    assert [(line["event"], line["log_level"], "exc_info" in line) for line in lines] == [(event, level, status == 500)]
