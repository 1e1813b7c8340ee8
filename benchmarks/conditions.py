"""What a training benchmark ran on and with, for the results file."""

import os
import platform
import subprocess
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from benchmarks.serving.surroundings import cpu
from models.machine.cores import usable_cores

ROOT = Path(__file__).resolve().parent.parent


def conditions(command: str, packages: Sequence[str] = ("torch", "torchvision", "numpy")) -> dict[str, Any]:
    """The command, the revision of the code, the machine and the versions."""
    return {
        "command": command,
        "when": datetime.now(UTC).isoformat(timespec="seconds"),
        "revision": subprocess.check_output(["git", "describe", "--always", "--dirty"], cwd=ROOT, text=True).strip(),
        "hardware": {
            "cpu": cpu(),
            "cores": usable_cores(),
            "capability": torch.backends.cpu.get_cpu_capability(),
            "kernel": platform.release(),
        },
        "threads": torch.get_num_threads(),
        "omp_wait_policy": os.environ.get("OMP_WAIT_POLICY", "default"),
        "versions": {"python": platform.python_version(), **{name: version(name) for name in packages}},
    }
