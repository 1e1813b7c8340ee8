"""A process ends with its parent, also when that is killed and can tell nobody."""

import os
import signal
import subprocess
import sys

from tests.service.served import DEADLINE_S

PROGRAM = """
import os, signal
from service.process.parent_death import die_with_parent

parent = os.getpid()
if os.fork() == 0:
    die_with_parent(parent)
    print("child", flush=True)
signal.pause()
"""


def test_a_child_ends_when_its_parent_is_killed() -> None:
    """Both hold standard output, which so ends with the last of them."""
    with subprocess.Popen([sys.executable, "-c", PROGRAM], stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        assert parent.stdout.readline() == b"child\n"
        os.kill(parent.pid, signal.SIGKILL)
        rest, _ = parent.communicate(timeout=DEADLINE_S)
    assert rest == b""


def test_a_child_whose_parent_is_gone_already_ends_at_once() -> None:
    program = PROGRAM.replace("die_with_parent(parent)", "die_with_parent(parent + 1)").replace(
        "signal.pause", "os.wait"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, timeout=DEADLINE_S, check=True)
    assert done.stdout == b""
