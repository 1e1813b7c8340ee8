"""Memory: what there is, and what a process has for itself."""

import os

import numpy as np

from models.machine.memory import own_memory, usable_memory


def test_what_may_be_used_is_no_more_than_the_machine_has() -> None:
    assert 0 < usable_memory() <= os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def test_what_is_written_to_is_ones_own() -> None:
    before = own_memory()
    written = np.ones(64 << 20, np.uint8)
    assert 0.9 * written.nbytes < own_memory() - before < 1.5 * written.nbytes
