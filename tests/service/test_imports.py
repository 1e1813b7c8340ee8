"""What importing the service costs: no torch, and nothing happens."""

import pkgutil
import subprocess
import sys

import service

HEAVY = ("torch", "torchvision", "onnx", "training", "matplotlib")


def test_no_module_of_the_service_imports_torch() -> None:
    modules = pkgutil.walk_packages(service.__path__, "service.")
    names = [module.name for module in modules if not module.name.endswith("__main__")]
    assert {"service.supervisor.litserve", "service.commands.serve", "service.worker.worker"} <= set(names)
    program = f"""
import importlib, sys, threading
for name in {names}:
    importlib.import_module(name)
found = sorted(set({HEAVY}) & set(sys.modules))
assert not found, found
assert threading.active_count() == 1
"""
    subprocess.run([sys.executable, "-W", "error::ImportWarning", "-c", program], check=True, timeout=60)
