"""What the kernel's control group of this process allows, and did to it (cgroups(7), versions 1 and 2)."""

import math
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

_ROOT = Path("/")
_CPU_FILES = (("cpu.max",), ("cpu.cfs_quota_us", "cpu.cfs_period_us"))  # files of quota and period, in microseconds
_UNLIMITED = ("max", "-1")
_MEMORY_FILES = ("memory.events", "memory.oom_control")
_LIMIT_FILES = ("memory.max", "memory.limit_in_bytes")


def quota_cores(root: Path = _ROOT) -> float:
    """CPU time a second that the group and those above it leave, in cores; infinite where nothing limits it."""
    return min((_cores(folder) for folder in _folders("cpu", root)), default=math.inf)


def count_oom_kills(root: Path = _ROOT) -> int:
    """How often the kernel killed for memory in the group; 0 where it is unknown."""
    for folder in _folders("memory", root):
        for name in _MEMORY_FILES:
            with suppress(OSError, ValueError):  # ValueError: kernels before 4.13 do not tell
                words = (folder / name).read_text().split()
                return int(words[words.index("oom_kill") + 1])
    return 0


def memory_limit(root: Path = _ROOT) -> int | None:
    """Bytes of memory that the group and those above it leave; None where nothing limits it."""
    limits = []
    for folder in _folders("memory", root):
        for name in _LIMIT_FILES:
            with suppress(OSError, ValueError):  # ValueError: "max"
                limits.append(int((folder / name).read_text()))
    return min(limits, default=None)


def _cores(folder: Path) -> float:
    for names in _CPU_FILES:
        with suppress(OSError):
            quota, period = " ".join((folder / name).read_text() for name in names).split()
            return math.inf if quota in _UNLIMITED else int(quota) / int(period)
    return math.inf


def _folders(controller: str, root: Path) -> Iterator[Path]:
    """This process's group and those above it; in a container only the uppermost may be there, which is its own."""
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        return
    for _, controllers, path in (line.split(":", 2) for line in lines):
        if controllers and controller not in controllers.split(","):
            continue
        mount = root / "sys/fs/cgroup" / (controller if controllers else "")  # version 2 names no controllers
        own = mount / path.lstrip("/")
        yield from (folder for folder in (own, *own.parents) if folder.is_relative_to(mount))
