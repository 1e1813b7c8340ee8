"""The cores of this process; how quotas are read is in `test_cgroup.py`."""

import math
import os
import subprocess
import sys

import pytest

from models.machine import cores


def test_cores_are_those_of_the_affinity() -> None:
    first = min(os.sched_getaffinity(0))
    code = (
        f"import os; os.sched_setaffinity(0, [{first}]); from models.machine.cores import usable_cores as n; print(n())"
    )
    command = [sys.executable, "-c", code]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip() == "1"


@pytest.mark.parametrize(("quota", "usable"), [(math.inf, 8), (9.0, 8), (2.9, 2), (0.5, 1)])
def test_a_quota_leaves_whole_cores_and_at_least_one(
    quota: float, usable: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)))
    monkeypatch.setattr(cores, "quota_cores", lambda: quota)
    assert cores.usable_cores() == usable
