"""What is read of control groups, from trees of files as cgroups(7) and the kernel's documents describe them."""

import math
from pathlib import Path

import pytest

from models.machine.cgroup import count_oom_kills, memory_limit, quota_cores

EVENTS = "low 0\nhigh 0\nmax 31\noom 4\noom_kill {}\noom_group_kill 0\n"
CONTROL = "oom_kill_disable 0\nunder_oom 0\noom_kill {}\n"
TWO = "0::{}\n"
ONE = "9:name=systemd:{0}\n4:memory:{0}\n1:cpu,cpuacct:{0}\n0::{0}\n"


def make(root: Path, groups: str, files: dict[str, str]) -> Path:
    """A machine's files: the groups of this process, and what is under /sys/fs/cgroup."""
    files = {"proc/self/cgroup": groups} | {f"sys/fs/cgroup/{name}": text for name, text in files.items()}
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


@pytest.mark.parametrize(
    ("groups", "files", "cores"),
    [
        (TWO.format("/a/b"), {"a/b/cpu.max": "150000 100000\n"}, 1.5),
        (TWO.format("/a/b"), {"a/b/cpu.max": "max 100000\n"}, math.inf),
        (TWO.format("/a/b"), {"a/b/cpu.max": "max 100000\n", "a/cpu.max": "200000 100000\n"}, 2.0),
        (TWO.format("/a/b"), {"a/b/cpu.max": "100000 50000\n", "a/cpu.max": "800000 100000\n"}, 2.0),
        (TWO.format("/host/path"), {"cpu.max": "300000 100000\n"}, 3.0),
        (TWO.format("/../other"), {"cpu.max": "300000 100000\n"}, 3.0),
        (ONE.format("/a"), {"cpu/a/cpu.cfs_quota_us": "50000\n", "cpu/a/cpu.cfs_period_us": "100000\n"}, 0.5),
        (ONE.format("/a"), {"cpu/a/cpu.cfs_quota_us": "-1\n", "cpu/a/cpu.cfs_period_us": "100000\n"}, math.inf),
        (ONE.format("/a"), {"cpu/cpu.cfs_quota_us": "400000\n", "cpu/cpu.cfs_period_us": "100000\n"}, 4.0),
        (TWO.format("/"), {}, math.inf),
    ],
    ids=[
        *("own quota", "no quota", "quota above", "least quota", "in a container", "in a namespace"),
        *("version 1", "version 1 without", "version 1 in a container", "no files"),
    ],
)
def test_the_quota_is_the_least_of_the_group_and_those_above_it(
    tmp_path: Path, groups: str, files: dict[str, str], cores: float
) -> None:
    assert quota_cores(make(tmp_path, groups, files)) == cores


@pytest.mark.parametrize(
    ("groups", "files", "kills"),
    [
        (TWO.format("/a"), {"a/memory.events": EVENTS.format(3), "memory.events": EVENTS.format(9)}, 3),
        (TWO.format("/host/path"), {"memory.events": EVENTS.format(2)}, 2),
        (ONE.format("/a"), {"memory/a/memory.oom_control": CONTROL.format(5)}, 5),
        (ONE.format("/a"), {"memory/a/memory.oom_control": "oom_kill_disable 0\nunder_oom 0\n"}, 0),
        (TWO.format("/"), {}, 0),
    ],
    ids=["own", "in a container", "version 1", "version 1 of an old kernel", "no files"],
)
def test_the_kernels_kills_are_those_of_the_own_group(
    tmp_path: Path, groups: str, files: dict[str, str], kills: int
) -> None:
    assert count_oom_kills(make(tmp_path, groups, files)) == kills


@pytest.mark.parametrize(
    ("groups", "files", "limit"),
    [
        (TWO.format("/a/b"), {"a/b/memory.max": "4096\n", "a/memory.max": "max\n"}, 4096),
        (TWO.format("/a/b"), {"a/b/memory.max": "8192\n", "a/memory.max": "4096\n"}, 4096),
        (TWO.format("/host/path"), {"memory.max": "4096\n"}, 4096),
        (ONE.format("/a"), {"memory/a/memory.limit_in_bytes": "4096\n"}, 4096),
        (TWO.format("/a"), {"a/memory.max": "max\n"}, None),
        (TWO.format("/"), {}, None),
    ],
    ids=["own", "above", "in a container", "version 1", "no limit", "no files"],
)
def test_the_memory_is_the_least_of_the_group_and_those_above_it(
    tmp_path: Path, groups: str, files: dict[str, str], limit: int | None
) -> None:
    assert memory_limit(make(tmp_path, groups, files)) == limit


def test_a_machine_without_control_groups_limits_nothing(tmp_path: Path) -> None:
    assert (quota_cores(tmp_path), count_oom_kills(tmp_path), memory_limit(tmp_path)) == (math.inf, 0, None)
