"""Time that passes for the supervisor while the machine runs."""

import time

from service.policy import WATCH_INTERVAL_S


def seconds_awake(gap_s: float) -> float:
    """How much of the time between two looks counts.

    A long gap tells that the supervisor, and so perhaps the whole machine, stood still: of it no more counts than of a
    usual one.
    """
    return min(gap_s, 2 * WATCH_INTERVAL_S)


class Countdown:
    """Seconds that something may take, as far as the supervisor was awake to look."""

    def __init__(self, seconds: float) -> None:
        self._left_s, self._looked_s = seconds, time.monotonic()

    def is_over(self, now_s: float) -> bool:
        """Look how much of them is left."""
        gap_s, self._looked_s = now_s - self._looked_s, now_s
        self._left_s -= seconds_awake(gap_s)
        return self._left_s < 0
