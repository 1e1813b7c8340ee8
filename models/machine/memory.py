"""How much memory this process may use, how much it uses, and how it gives some back."""

import ctypes
import os
from pathlib import Path

from models.machine.cgroup import memory_limit

_malloc_trim = getattr(ctypes.CDLL(None), "malloc_trim", lambda _: None)  # glibc's; others have none


def usable_memory() -> int:
    """Bytes: the machine's memory, or what the control group leaves of it."""
    machine = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return min(machine, memory_limit() or machine)


def own_memory() -> int:
    """Bytes of this process that it shares with no other and with no file (proc(5): statm); 0 where none tells.

    OSError if there is no descriptor to read it with: 0 would make all that the process holds the next model's.
    """
    try:
        _, resident, shared, *_ = map(int, Path("/proc/self/statm").read_text().split())
    except (FileNotFoundError, PermissionError):
        return 0
    return (resident - shared) * os.sysconf("SC_PAGE_SIZE")


def memory_since(before: int) -> int:
    """Bytes that this process has come to hold since `own_memory` was so much, without what is free."""
    trim_memory()
    return max(0, own_memory() - before)


def trim_memory() -> None:
    """Have the allocator give back to the system what is free."""
    _malloc_trim(0)
