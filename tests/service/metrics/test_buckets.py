"""Buckets reach as far as what they hold."""

import pytest

from service.metrics.buckets import request_buckets, stage_buckets


@pytest.mark.parametrize(("longest_s", "last"), [(1.0, 60.0), (60.0, 60.0), (61.0, 120.0), (300.0, 480.0)])
def test_buckets_reach_the_latest_deadline(longest_s: float, last: float) -> None:
    assert (request_buckets(longest_s)[-1], stage_buckets(longest_s)[-1]) == (last, last)
