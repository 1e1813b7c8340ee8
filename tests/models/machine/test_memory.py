"""Memory: what there is, and what a process has for itself."""

import mmap
import os

from models.machine.memory import own_memory, usable_memory


def test_what_may_be_used_is_no_more_than_the_machine_has() -> None:
    assert 0 < usable_memory() <= os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def test_what_is_written_to_is_ones_own() -> None:
    size, before = 64 << 20, own_memory()
    # Not by malloc, which gives again what an earlier test has freed.
    with mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as memory:
        for _ in range(64):
            memory.write(bytes([1]) * (1 << 20))
        written = own_memory() - before
    assert 0.9 * size < written < 1.5 * size
