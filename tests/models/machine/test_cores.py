"""How many cores there are for us; quotas are in `test_cgroup.py`."""

import os
import subprocess
import sys


def test_cores_are_those_of_the_affinity() -> None:
    first = min(os.sched_getaffinity(0))
    code = (
        f"import os; os.sched_setaffinity(0, [{first}]); from models.machine.cores import usable_cores as n; print(n())"
    )
    command = [sys.executable, "-c", code]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip() == "1"
