"""Time that something may take passes while the supervisor looks, and hardly while it stands still."""

import math
import time

import pytest

from service.policy import WATCH_INTERVAL_S
from service.pools.countdown import Countdown


def test_it_is_over_after_its_seconds_unless_nobody_looked() -> None:
    countdown, began_s = Countdown(5), time.monotonic()
    assert not countdown.is_over(began_s + 1000)  # the whole machine stood still
    looks = [began_s + 1000 + i * WATCH_INTERVAL_S for i in range(1, 100)]
    over_s = next(now_s for now_s in looks if countdown.is_over(now_s))
    assert over_s - looks[0] == pytest.approx(5, abs=4 * WATCH_INTERVAL_S)
    assert countdown.is_over(over_s + WATCH_INTERVAL_S)


def test_one_without_end_is_never_over() -> None:
    countdown, now_s = Countdown(math.inf), time.monotonic()
    assert not any(countdown.is_over(now_s + i * WATCH_INTERVAL_S) for i in range(1000))
