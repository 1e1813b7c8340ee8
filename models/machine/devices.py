"""What this machine has to run networks on."""

import os
import subprocess
from itertools import takewhile


def gpus() -> int:
    """How many NVIDIA GPUs CUDA finds: CUDA_VISIBLE_DEVICES may hide some, and of those in parts (MIG) it takes one."""
    try:
        listed = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, timeout=20, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return 0
    lines = [line.strip() for line in listed.splitlines()]
    found = sum(line.startswith("GPU ") for line in lines)
    usable = min(found, 1) if any(line.startswith("MIG ") for line in lines) else found
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is None:
        return usable
    # As the driver reads it: the first invalid name, such as -1, hides itself and all that follow.
    names = takewhile(lambda name: _is_gpu(name, found), map(str.strip, visible.split(",")))
    return min(usable, len(list(names)))


def _is_gpu(name: str, found: int) -> bool:
    """Whether this may name one of so many GPUs; Slurm gives jobs without one the name NoDevFiles."""
    return int(name) < found if name.isdecimal() else name.startswith(("GPU-", "MIG-"))


_LEAST_DRIVER = {12: 525, 13: 580}
"""By major version of CUDA, the oldest major version of NVIDIA's driver that runs it (CUDA's release notes)."""


def too_old_driver(cuda: str) -> str:
    """Why the driver cannot run what was made with this version of CUDA; nothing if it can, or that is not known."""
    least = _LEAST_DRIVER.get(int(cuda.partition(".")[0] or 0), 0)
    command = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        told = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True).stdout
        version = told.splitlines()[0].strip()
        if int(version.partition(".")[0]) >= least:
            return ""
    except (OSError, subprocess.SubprocessError, IndexError, ValueError):
        return ""
    return f"NVIDIA's driver {version} is too old for CUDA {cuda}, which needs {least} or newer"


class DeviceError(Exception):
    """The device that was asked for is not there."""


def choose_device(wanted: str) -> tuple[str, int]:
    """The kind of device, `cpu` or `cuda`, and how many of it there are; DeviceError if it is not there.

    `auto` takes the GPUs if nvidia-smi lists any: torch is not imported to find out.
    """
    if wanted == "cpu":
        return "cpu", 1
    if found := gpus():
        return "cuda", found
    if wanted == "cuda":
        raise DeviceError("device cuda was asked for, and nvidia-smi lists no GPU; use --device cpu, or auto")
    return "cpu", 1


def first_device(kind: str) -> str:
    """The first device of a kind, `cpu` or `cuda`, as engines name it."""
    return "cpu" if kind == "cpu" else f"{kind}:0"
