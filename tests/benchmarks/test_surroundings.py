import json
import os
import platform
import shutil
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks.surroundings import ROOT, serving_surroundings, training_surroundings


def test_they_tell_revision_machine_and_versions():
    git = subprocess.check_output(["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, text=True).strip()
    status = subprocess.check_output(["git", "status", "--porcelain", "--untracked-files=no"], cwd=ROOT, text=True)
    if [line for line in status.splitlines() if not line[3:].startswith("benchmarks/results/")]:
        git += "-dirty"
    for found in (serving_surroundings("benchmarks.some"), training_surroundings("benchmarks.some")):
        assert found["revision"] == git
        assert abs((datetime.now(UTC) - datetime.fromisoformat(found["when"])).total_seconds()) < 60
        assert found["hardware"]["kernel"] == os.uname().release
        assert (found["versions"]["python"], found["versions"]["numpy"]) == (platform.python_version(), np.__version__)


def test_the_command_is_the_one_that_runs(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(sys, "argv", ["x.py", "--job", "mnist"])
    assert serving_surroundings("benchmarks.serving")["command"] == "python -m benchmarks.serving --job mnist"


def test_what_is_not_installed_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "git").symlink_to(shutil.which("git") or "")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert serving_surroundings("benchmarks.serving")["versions"]["wrk"] == "not installed"
    assert (
        training_surroundings("benchmarks.some", ["no-such-package"])["versions"]["no-such-package"] == "not installed"
    )


def test_training_tells_its_threads():
    found = training_surroundings("benchmarks.some", ["torch"])
    assert found["threads"] == torch.get_num_threads()
    assert found["versions"]["torch"] == torch.__version__.partition("+")[0]
    json.dumps(found)
