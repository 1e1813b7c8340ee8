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

ROOT = Path(__file__).resolve().parent.parent


def conditions(command: str, packages: Sequence[str] = ("torch", "torchvision", "numpy")) -> dict[str, Any]:
    """The command, the revision of the code, the machine and the versions."""
    return {
        "command": command,
        "when": datetime.now(UTC).isoformat(timespec="seconds"),
        "revision": subprocess.check_output(["git", "describe", "--always", "--dirty"], cwd=ROOT, text=True).strip(),
        "hardware": {
            "cpu": _cpu(),
            "cores": len(os.sched_getaffinity(0)),
            "capability": torch.backends.cpu.get_cpu_capability(),
            "kernel": platform.release(),
        },
        "threads": torch.get_num_threads(),
        "omp_wait_policy": os.environ.get("OMP_WAIT_POLICY", "default"),
        "versions": {"python": platform.python_version(), **{name: version(name) for name in packages}},
    }


def _cpu() -> str:
    """Family and model too: a virtual machine often hides the name."""
    fields = dict(line.split(":", 1) for line in Path("/proc/cpuinfo").read_text().splitlines() if ":" in line)
    wanted = {name.strip(): value.strip() for name, value in fields.items()}
    return f"{wanted['model name']} (family {wanted['cpu family']}, model {wanted['model']})"
