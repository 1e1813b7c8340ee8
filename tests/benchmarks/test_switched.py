"""A part of the server that is taken out and put in again."""

import json
from collections import Counter
from itertools import pairwise
from pathlib import Path

import pytest

from benchmarks import switched
from benchmarks.side_by_side import TRAFFIC, Burst, BurstResult, Side, standing
from benchmarks.surroundings import ROOT
from benchmarks.switched_server import constant
from service import policy
from service.batching import batch_policy, shadow

SECONDS = 4
SLOT_S = 0.04  # of the shortest


def slot(per_second: float) -> dict[str, float]:
    return {"per_second": per_second, "p99_ms": 1.0, "cpu_us": 2.0, "failed": 0}


def test_only_slots_with_requests_are_pairs() -> None:
    slots = [(10.0, 20.0), (0.0, 30.0), (40.0, 0.0), (50.0, 60.0)]
    text = "".join(json.dumps({"with": slot(one), "without": slot(other)}) + "\n" for one, other in slots)
    found = [(this.per_second, other.per_second) for this, other in switched.read_pairs(text)]
    assert found == [(10.0, 20.0), (50.0, 60.0)]


def serve(part: str, folder: Path) -> tuple[BurstResult, list[tuple[BurstResult, BurstResult]], Counter[str]]:
    """A short burst of a server that switches the part: as the client saw it, the slots, and the shadow's copies."""
    messages, lines = TRAFFIC["digit"](), folder / "slots"
    flags = ("--workers", "1", "--api-processes", "1", *switched.FLAGS[part](folder / "models"))
    with standing(Side(ROOT, flags, ("benchmarks.switched_server", part, str(lines))), messages, folder) as server:
        lines.write_text("")
        before = server.copies()
        seen = server.serve(Burst(messages, connections=4, seconds=SECONDS))
        return seen, switched.read_pairs(lines.read_text()), server.copies() - before


def check(seen: BurstResult, pairs: list[tuple[BurstResult, BurstResult]]) -> None:
    """All was answered, and the slots, which are a part of the time, tell of no more requests than the client saw."""
    slots = [slot for pair in pairs for slot in pair]
    assert pairs
    assert seen.failed == sum(slot.failed for slot in slots) == 0
    assert all(slot.per_second > 0 and slot.p99_ms > 0 for slot in slots)
    assert sum(slot.per_second * SLOT_S for slot in slots) < 1.1 * seen.per_second * SECONDS


@pytest.mark.slow
def test_requests_of_slots_without_it_have_no_line_in_the_access_log(tmp_path: Path, require) -> None:
    require("wrk")
    seen, pairs, _ = serve("access-log", tmp_path)
    check(seen, pairs)
    events = [json.loads(line) for line in (tmp_path / "log").read_text().splitlines()]
    seconds = [float(event["timestamp"][17:26]) for event in events if event["event"] == "request"]
    assert sum(0.03 < (later - earlier) % 60 < 30 for earlier, later in pairwise(seconds)) > 5


@pytest.mark.slow
def test_a_shadow_that_is_switched_gets_copies_half_of_the_time(tmp_path: Path, require) -> None:
    require("wrk")
    seen, pairs, copies = serve("shadow", tmp_path)
    check(seen, pairs)
    assert copies["agreed"] > 0
    assert copies["differed"] == copies["failed"] == 0
    assert 0.02 < copies.total() / (SECONDS * seen.per_second) < 0.08  # of all a tenth would be


def test_a_constant_has_its_other_value_wherever_it_is_read_while_it_is_in() -> None:
    put = constant("LEAD_NS=6e6").find(None)  # type: ignore[arg-type]
    usual = policy.LEAD_NS
    put(True)
    assert (batch_policy.LEAD_NS, shadow.LEAD_NS, type(shadow.LEAD_NS)) == (6_000_000, 6_000_000, int)
    put(False)
    assert batch_policy.LEAD_NS == shadow.LEAD_NS == usual
