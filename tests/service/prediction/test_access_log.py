"""The access log: which requests have a line, and how lines are written."""

import asyncio
import json
import time
from collections.abc import Callable
from datetime import UTC, datetime
from select import PIPE_BUF
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.errors import DeadlineExceeded, Unavailable
from service.prediction.access_log import AccessLog
from service.prediction.response import Response, Timestamps

MS = 1_000_000


class Written:
    """What an access log writes, and when."""

    def __init__(self, success_share: float, scene: Callable[[AccessLog], None]) -> None:
        self.parts: list[bytes] = []

        async def play() -> None:
            scene(AccessLog(success_share, "json", self.parts.append))
            assert self.parts == []  # while requests are answered
            while not self.parts:
                await asyncio.sleep(0)

        asyncio.run(play())

    @property
    def lines(self) -> list[dict[str, Any]]:
        """The documents, each of which is a whole line of one part."""
        return [json.loads(line) for part in self.parts for line in part.decode().split("\n")[:-1]]


def response(request_id: str = "one", status: int = 200, model: str = "plain", **fields: Any) -> Response:
    stamps = Timestamps(0, MS, 3 * MS, 7 * MS, 15 * MS, 31 * MS)
    return Response(stamps, request_id, "POST", model, "2", status=status, **fields)


def good_response(**fields: Any) -> Response:
    """With the times that it tells its client, as every one that ended well."""
    good = response(**fields)
    good.note_timings()
    return good


def test_a_line_has_the_time_at_which_its_response_was_written() -> None:
    now, ns = datetime.now(UTC), time.monotonic_ns()
    ago_s = [0.0, 0.7, 1.4, 0.0, 90.0, 2.1]

    def scene(log: AccessLog) -> None:
        for s in ago_s:
            good = good_response()
            good.timestamps.written_ns = ns - int(s * 1e9)
            log.note(good, "/predict")

    times = [datetime.fromisoformat(line["timestamp"]) for line in Written(1, scene).lines]
    assert [(now - at).total_seconds() for at in times] == pytest.approx(ago_s, abs=0.01)


@pytest.mark.parametrize("make", [response, good_response])
def test_a_line_holds_what_is_known_of_the_request(make: Callable[..., Response]) -> None:
    trace_id = "0af7651916cd43dd8448eb211c80319c"

    def scene(log: AccessLog) -> None:
        log.note(make(trace_id=trace_id, client=("::1", 5), batch_size=4), "/predict", [300, 12])

    (line,) = Written(1, scene).lines
    assert line.pop("timestamp").endswith("Z")
    assert line == {
        "level": "info",
        "event": "request",
        "request_id": "one",
        "trace_id": trace_id,
        "client": "[::1]:5",
        "method": "POST",
        "route": "/predict",
        "model": "plain",
        "version": "2",
        "status": 200,
        "outcome": "ok",
        "images": 2,
        "bytes": 312,
        "batch_size": 4,
        "timings_ms": {"read": 1, "decode": 2, "queue": 4, "inference": 8, "respond": 16, "total": 31},
    }


@given(st.text(), st.text(), st.text(min_size=1), st.text())
def test_a_line_is_json_whatever_it_names(request_id: str, model: str, key: str, route: str) -> None:
    asked: dict[str, Any] = {"request_id": request_id, "model": model, "key": key}
    lines: list[bytes] = []

    async def play() -> None:
        log = AccessLog(1, "json", lines.append)
        for noted in (good_response(**asked), response(**asked, rejected=["undecodable_image"])):
            log.note(noted, route, [7])
            log.flush()

    asyncio.run(play())
    for line in map(json.loads, lines):
        assert {name: line[name] for name in asked} == asked
        assert (line["route"], line["client"], line["images"], line["bytes"]) == (route, "", 1, 7)


@pytest.mark.parametrize(
    ("stamps", "timings_ms"),
    [
        ((), {}),
        ((MS,), {"read": 1}),
        ((MS, 3 * MS), {"read": 1, "decode": 2}),
    ],
)
def test_a_request_that_failed_tells_why_and_the_stages_that_it_passed(
    stamps: tuple[int, ...], timings_ms: dict[str, float]
) -> None:
    def scene(log: AccessLog) -> None:
        failed = response()
        failed.timestamps = Timestamps(0, *stamps, written_ns=40 * MS)
        failed.fail(Unavailable("full", "no place is free"))
        log.note(failed, "/predict")

    (line,) = Written(0, scene).lines
    assert line["timings_ms"] == timings_ms | {"total": 40}
    assert (line["status"], line["outcome"], line["code"]) == (503, "shed", "unavailable")
    assert (line["reason"], line["detail"]) == ("full", "no place is free")


@pytest.mark.parametrize(("share", "noted"), [(0, 0), (1, 2000)])
def test_what_did_not_end_well_has_a_line_and_of_the_rest_a_share(share: float, noted: int) -> None:
    def scene(log: AccessLog) -> None:
        for _ in range(2000):
            log.note(response(), "/predict")
        failed = response("expired")
        failed.fail(DeadlineExceeded("too late"))
        log.note(failed, "/predict")
        log.note(response("in part", rejected=["undecodable_image"]), "/predict")
        log.note(response("livez", 404), "")
        log.note_cancelled(response("gone"), "/predict")

    ids = [line["request_id"] for line in Written(share, scene).lines]
    assert ids.count("one") == noted
    assert [one for one in ids if one != "one"] == ["expired", "in part", "livez", "gone"]


def test_a_share_between_is_about_that() -> None:
    def scene(log: AccessLog) -> None:
        for _ in range(10_000):
            log.note(response(), "/predict")

    assert 2500 < len(Written(0.3, scene).lines) < 3500  # eleven standard deviations off


def test_a_client_that_left_has_no_status() -> None:
    (line,) = Written(0, lambda log: log.note_cancelled(response(), "/predict", [5])).lines
    assert (line["outcome"], line["bytes"]) == ("cancelled", 5)
    assert "status" not in line


def test_lines_are_written_together_in_parts_that_stay_whole_in_a_pipe() -> None:
    def scene(log: AccessLog) -> None:
        for n in range(100):
            log.note(response(f"{n}"), "/predict")

    written = Written(1, scene)
    assert max(map(len, written.parts)) <= PIPE_BUF
    assert len(written.parts) < 20
    assert [line["request_id"] for line in written.lines] == [str(n) for n in range(100)]
