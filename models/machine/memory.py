"""How much memory this process may use."""

import os

from models.machine.cgroup import memory_limit


def usable_memory() -> int:
    """Bytes: the machine's memory, or what the control group leaves of it."""
    machine = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return min(machine, memory_limit() or machine)
