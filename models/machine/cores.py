"""How many cores this process may use."""

import os

from models.machine.cgroup import quota_cores


def usable_cores() -> int:
    """Cores that this process may use: its affinity, less what the control group's CPU quota takes away; at least 1."""
    return max(1, int(min(len(os.sched_getaffinity(0)), quota_cores())))
