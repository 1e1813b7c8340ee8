"""What a measurement was made on, with and by: without it no figure means anything."""

import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from models.machine.cores import usable_cores

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results"

_SERVING = (
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
AS_KIND = "RESNET_BENCHMARK_AS"
"""Variable that `without_avx512` sets: the widest vector unit that is used, if the machine has wider ones."""
_VECTOR_UNITS = ("avx512_vnni", "avx512f", "avx_vnni", "avx2", "avx")  # the widest first
_TRAINING = ("torch", "torchvision", "numpy")


def serving_surroundings(module: str) -> dict[str, Any]:
    """Of a benchmark of servers: the command that ran this module, the revision, the machine and the versions."""
    hardware = {
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "note": "the load generator runs on the same cores",
    }
    wrk = _output("wrk", "-v").split("[")[0].strip() if shutil.which("wrk") else "not installed"
    within = ["benchmarks.without_avx512"] if AS_KIND in os.environ else []
    command = " ".join(["python -m", *within, module, *sys.argv[1:]])
    return _surroundings(command, hardware, {package: _version(package) for package in _SERVING} | {"wrk": wrk})


def training_surroundings(command: str, packages: Sequence[str] = _TRAINING) -> dict[str, Any]:
    """Of a benchmark that computes with torch: the command, the revision, the machine, the threads and the versions."""
    import torch  # the benchmarks of servers do without

    hardware = {"capability": torch.backends.cpu.get_cpu_capability()}
    return _surroundings(command, hardware, {package: _version(package) for package in packages}) | {
        "threads": torch.get_num_threads(),
        "omp_wait_policy": os.environ.get("OMP_WAIT_POLICY", "default"),
    }


def _surroundings(command: str, hardware: dict[str, Any], versions: dict[str, str]) -> dict[str, Any]:
    return {
        "command": command,
        "when": datetime.now(UTC).isoformat(timespec="seconds"),
        "revision": _revision(),
        "hardware": {
            "cpu": _cpu(),
            "kind": cpu_kind(),
            "cores": usable_cores(),
            "kernel": platform.release(),
            **hardware,
        },
        "versions": {"python": platform.python_version(), **versions},
    }


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


def _revision() -> str:
    """The commit that is checked out, and whether more than the results of benchmarks has been changed since."""
    commit = _output("git", "describe", "--always")
    changed = _output("git", "diff", "--name-only", "HEAD", "--", ".", ":!benchmarks/results")
    return f"{commit}-dirty" if changed else commit


def _output(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT).stdout.strip()


def cpu_kind() -> str:
    """Maker, family and widest vector unit, such as `amd25-avx512_vnni`: figures of other kinds do not compare.

    One that is left unused follows, as in `amd25-avx2-of-avx512_vnni`.
    """
    known = _cpuinfo()
    maker = {"AuthenticAMD": "amd", "GenuineIntel": "intel"}.get(known.get("vendor_id", ""), platform.machine())
    flags = known.get("flags", "").split()
    widest = next((unit for unit in _VECTOR_UNITS if unit in flags), "other")
    unit = f"{os.environ[AS_KIND]}-of-{widest}" if AS_KIND in os.environ else widest
    return f"{maker}{known.get('cpu family', '')}-{unit}"


def _cpu() -> str:
    """What the processor calls itself, with family and model: a virtual machine often hides the name."""
    known = _cpuinfo()
    family, model = known.get("cpu family", "?"), known.get("model", "?")
    return f"{known.get('model name', platform.processor())} (family {family}, model {model})"


def _cpuinfo() -> dict[str, str]:
    fields = dict(line.split(":", 1) for line in Path("/proc/cpuinfo").read_text().splitlines() if ":" in line)
    return {name.strip(): value.strip() for name, value in fields.items()}
