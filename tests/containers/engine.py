"""How containers are started by the tests."""

import os
import shlex
from collections.abc import Callable

from tests.documents import ROOT

TAG = "resnet-serve:test"
# With `--network host` for an engine that has no bridge.
FLAGS = shlex.split(os.environ.get("DOCKER_FLAGS", ""))
LOCKED_DOWN = (
    *("--read-only", "--cap-drop", "ALL", "--pids-limit", "64", "--security-opt", "no-new-privileges"),
    *("--security-opt", f"seccomp={ROOT / 'deploy' / 'seccomp.json'}"),
)

Run = Callable[..., str]
"""A command of a program with these arguments; what it prints."""
