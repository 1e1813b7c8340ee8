"""The processor, and how many of its cores this process may use."""

import os
import platform
from pathlib import Path

from models.machine.cgroup import quota_cores


def usable_cores() -> int:
    """Cores that this process may use: its affinity, less what the control group's CPU quota takes away; at least 1."""
    return max(1, int(min(len(os.sched_getaffinity(0)), quota_cores())))


def cpu_name() -> str:
    """The processor's name."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:  # not Linux
        return platform.processor()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()
