from pathlib import Path

import pytest

from benchmarks.soak.__main__ import PARTS, Part, errors_in, p99_ms, trends_of


def part(number: int, *, rss_mib: float = 200.0, descriptors: float = 50.0, p99: float = 4.0) -> Part:
    return Part(number * 110.0, rss_mib, descriptors, p99, probe_p99_ms=2.0, answered=1000)


def test_what_grows_once_the_server_is_warm_is_named():
    parts = [part(n, descriptors=50.0 + n, rss_mib=100.0 if n < 4 else 200.0) for n in range(PARTS)]
    trends = trends_of(parts, least_leak_mib=0.001)
    assert {name: trend.grows for name, trend in trends.items()} == {
        "resident memory": False,
        "file descriptors": True,
        "p99 / p99 of /livez": False,
    }
    assert trends["file descriptors"].per_hour == pytest.approx(3600 / 110 / 59.5)


def test_memory_may_grow_by_less_than_one_object_for_each_of_the_rarest_requests():
    parts = [part(n, rss_mib=200.0 + n / 1000) for n in range(PARTS)]
    a_leak = 3600 / 110 / 1000  # MiB an hour
    assert trends_of(parts, least_leak_mib=0.9 * a_leak)["resident memory"].grows
    assert not trends_of(parts, least_leak_mib=1.1 * a_leak)["resident memory"].grows


def test_slowness_is_relative_to_that_of_probes():
    assert part(0, p99=5.0).p99_ratio == 2.5


def test_the_99th_percentile_is_told_in_milliseconds():
    assert p99_ms([n / 1000 for n in range(101)]) == pytest.approx(99)


def test_errors_are_counted_in_the_log(tmp_path: Path):
    log = tmp_path / "log"
    log.write_text('{"level": "info", "event": "error"}\n{"level": "error", "event": "x"}\nerror in plain text\n')
    assert errors_in(log) == 1
