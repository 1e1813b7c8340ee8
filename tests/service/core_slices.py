"""What the scheduler of Linux tells of a thread."""

import ctypes
import platform
import struct
from typing import NamedTuple, Self

import pytest

KERNEL = tuple(int(part) for part in platform.release().split("-")[0].split(".")[:2])
SCHED_GETATTR = {"x86_64": 315, "aarch64": 275}

needs_core_slices = pytest.mark.skipif(KERNEL < (6, 12), reason="threads have slices of their own since Linux 6.12")


class Scheduled(NamedTuple):
    """Policy, niceness, and the slice of a core that the thread asked for."""

    policy: int
    niceness: int
    slice_ns: int

    @classmethod
    def of(cls, thread: int) -> Self:
        """That of a thread, of this one if it is 0 (sched_getattr(2))."""
        buffer = ctypes.create_string_buffer(56)
        assert ctypes.CDLL(None).syscall(SCHED_GETATTR[platform.machine()], thread, buffer, len(buffer), 0) == 0
        _, policy, _, niceness, _, slice_ns = struct.unpack_from("=IIQiIQ", buffer)
        return cls(policy, niceness, slice_ns)
