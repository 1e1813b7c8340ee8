"""What a measurement was made on, with and by: without it no figure means anything."""

import os
import platform
import shutil
import subprocess
import sys
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from benchmarks.serving.servers import ROOT
from models.machine.cores import usable_cores

_PACKAGES = (
    "resnet-serve",
    "litserve",
    "mosec",
    "onnxruntime",
    "pillow",
    "numpy",
    "uvicorn",
    "uvloop",
    "httptools",
    "orjson",
)


def surroundings(module: str) -> dict[str, Any]:
    """The command that ran this module, the revision, the machine and the versions."""
    return {
        "command": " ".join(["python -m", module, *sys.argv[1:]]),
        "when": datetime.now(UTC).isoformat(timespec="seconds"),
        "revision": _output("git", "describe", "--always", "--dirty"),
        "hardware": {
            "cpu": cpu(),
            "cores": usable_cores(),
            "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
            "kernel": platform.release(),
            "note": "the load generator runs on the same cores",
        },
        "versions": {
            "python": platform.python_version(),
            **{package: _version(package) for package in _PACKAGES},
            "wrk": _output("wrk", "-v").split("[")[0].strip() if shutil.which("wrk") else "not installed",
        },
    }


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


def _output(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT).stdout.strip()


def cpu() -> str:
    """What the processor calls itself, with family and model: a virtual machine often hides the name."""
    fields = dict(line.split(":", 1) for line in Path("/proc/cpuinfo").read_text().splitlines() if ":" in line)
    known = {name.strip(): value.strip() for name, value in fields.items()}
    family, model = known.get("cpu family", "?"), known.get("model", "?")
    return f"{known.get('model name', platform.processor())} (family {family}, model {model})"
