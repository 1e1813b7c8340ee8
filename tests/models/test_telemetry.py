import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
HINDRANCES = ("CI", "ORT_DISABLE_TELEMETRY", "XDG_CACHE_HOME", "XDG_DATA_HOME")  # would hide what is looked for


def test_onnx_runtime_leaves_no_device_id_behind(tmp_path: Path) -> None:
    """Its telemetry begins by writing a device id and a queue of events under the home directory."""
    environment = {name: value for name, value in os.environ.items() if name not in HINDRANCES}
    command = [sys.executable, "-B", "-c", "import models.engines.onnx_engine"]
    subprocess.run(command, cwd=ROOT, env=environment | {"HOME": str(tmp_path)}, check=True)
    assert not list(tmp_path.rglob("*"))
