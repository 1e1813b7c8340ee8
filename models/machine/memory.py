"""How much memory this process may use, and how much it uses."""

import os
from pathlib import Path

from models.machine.cgroup import memory_limit


def usable_memory() -> int:
    """Bytes: the machine's memory, or what the control group leaves of it."""
    machine = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return min(machine, memory_limit() or machine)


def own_memory() -> int:
    """Bytes of this process that it shares with no other and with no file (proc(5): statm); 0 without /proc."""
    try:
        _, resident, shared, *_ = map(int, Path("/proc/self/statm").read_text().split())
    except OSError:
        return 0
    return (resident - shared) * os.sysconf("SC_PAGE_SIZE")
