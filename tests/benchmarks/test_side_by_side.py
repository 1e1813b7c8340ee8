"""Pairs of neighbouring loads, and what they say about two servers."""

from pathlib import Path

import pytest

from benchmarks.side_by_side import TRAFFIC, Burst, BurstRatios, BurstResult, Side, in_turn, standing
from benchmarks.surroundings import ROOT


def test_ratios_are_of_neighbours_and_not_of_medians() -> None:
    pairs = [
        (BurstResult(100.0, 2.0, 50.0, 0), BurstResult(200.0, 4.0, 100.0, 0)),
        (BurstResult(900.0, 1.0, 40.0, 1), BurstResult(1000.0, 1.0, 80.0, 2)),
        (BurstResult(450.0, 3.0, 60.0, 0), BurstResult(300.0, 2.0, 120.0, 0)),
    ]
    found = BurstRatios.of(pairs)
    assert (found.this_per_second.median, found.other_per_second.median) == (450.0, 300.0)
    assert (found.per_second.median, found.p99.median, found.cpu.median, found.failed) == (0.9, 1.0, 0.5, 1)


@pytest.mark.slow
def test_servers_stand_together_and_each_answers_in_each_turn(tmp_path: Path, require) -> None:
    require("wrk")
    messages, side = TRAFFIC["digit"](), Side(ROOT, ("--workers", "1"))
    with standing(side, messages, tmp_path / "a") as one, standing(side, messages, tmp_path / "b") as other:
        turns = list(in_turn({"one": one, "other": other}, Burst(messages, connections=2, seconds=1), 2))
    assert [list(turn) for turn in turns] == [["other", "one"], ["one", "other"]]
    for served in (served for turn in turns for served in turn.values()):
        assert min(served.per_second, served.cpu_us) > 0
        assert served.failed == 0
