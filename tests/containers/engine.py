"""How containers are started by the tests."""

import os
import shlex
from collections.abc import Callable

TAG = "resnet-serve:test"
# With `--network host` for an engine that has no bridge.
FLAGS = shlex.split(os.environ.get("DOCKER_FLAGS", ""))
LOCKED_DOWN = ("--read-only", "--cap-drop", "ALL", "--security-opt", "no-new-privileges", "--pids-limit", "64")

Run = Callable[..., str]
"""A command of a program with these arguments; what it prints."""
