"""A changed constant is what the server's modules read."""

import subprocess
import sys

PROGRAM = """
from benchmarks.changed_policy import change
change("FOLDED_IDS=25.0")
change("NEWEST_WEIGHT=0.05")
from service.batching import wait_estimate
from service.prediction import problem_log
print(problem_log.FOLDED_IDS, wait_estimate.NEWEST_WEIGHT)
"""


def test_modules_that_are_imported_later_read_it_in_its_own_kind() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, check=True, timeout=60)
    assert done.stdout == b"25 0.05\n"
