"""What the service imports: no torch, and in the process that others are forked from nothing that bears no fork."""

import pkgutil
import subprocess
import sys
from pathlib import Path

import service
from tests.service.served import Served

HEAVY = ("torch", "torchvision", "onnx", "training", "matplotlib")


def test_no_module_of_the_service_imports_torch() -> None:
    modules = pkgutil.walk_packages(service.__path__, "service.")
    names = [module.name for module in modules if not module.name.endswith("__main__")]
    assert {"service.pools.litserve", "service.commands.serve", "service.worker.worker"} <= set(names)
    program = f"""
import importlib, sys, threading
for name in {names}:
    importlib.import_module(name)
found = sorted(set({HEAVY}) & set(sys.modules))
assert not found, found
assert threading.active_count() == 1
"""
    subprocess.run([sys.executable, "-W", "error::ImportWarning", "-c", program], check=True, timeout=60)


def test_the_process_that_others_are_forked_from_holds_nothing_that_bears_no_fork(server: Served) -> None:
    first, worker = (Path(f"/proc/{pid}") for pid in (server.process.pid, server.worker()))
    assert len([*(first / "task").iterdir()]) == 1
    libraries = (first / "maps").read_text()
    assert "numpy" in libraries
    assert not [name for name in ("onnxruntime", "libtorch", "libcuda") if name in libraries]
    assert "onnxruntime" in (worker / "maps").read_text()
