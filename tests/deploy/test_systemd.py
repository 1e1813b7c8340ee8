"""The unit, as systemd itself reads it."""

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from service.config.settings import Settings
from tests.documents import ROOT
from tests.service.served import Served

# MemoryDenyWriteExecute=, kept by what is started: prctl(PR_SET_MDWE, PR_MDWE_REFUSE_EXEC_GAIN), in Linux since 6.3.
DENIED = "import ctypes, os, sys; ctypes.CDLL(None).prctl(65, 1, 0, 0, 0); os.execv(sys.argv[1], sys.argv[1:])"
STATE = "import ctypes; print(ctypes.CDLL(None).prctl(66, 0, 0, 0, 0))"  # PR_GET_MDWE
UNIT = ROOT / "deploy" / "systemd" / "resnet-serve.service"


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    """The unit with a program that is there."""
    path = tmp_path / UNIT.name
    path.write_text(UNIT.read_text().replace("/opt/resnet-serve/bin", f"{sys.prefix}/bin"))
    return path


def analyze(require: Callable[[str], str], *arguments: object) -> subprocess.CompletedProcess[str]:
    command = [require("systemd-analyze"), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True)


def test_systemd_finds_nothing_wrong(require: Callable[[str], str], installed: Path) -> None:
    verified = analyze(require, "verify", installed)
    assert (verified.returncode, verified.stdout + verified.stderr) == (0, "")


def test_little_of_the_machine_is_open_to_it(require: Callable[[str], str], installed: Path) -> None:
    """At most 2.0 of 10 by systemd's own measure; a unit without any of these settings has 9.6."""
    rated = analyze(require, "security", "--offline=true", "--threshold=20", installed)
    assert rated.returncode == 0, rated.stdout


def test_the_first_process_alone_is_told_and_has_time_to_drain() -> None:
    settings = dict(re.findall(r"^(\w+)=(.*)$", UNIT.read_text(), re.MULTILINE))
    assert settings["KillMode"] == "mixed"
    assert float(settings["TimeoutStopSec"]) > Settings.model_fields["grace"].default


def test_the_server_needs_no_memory_that_is_writable_and_executable() -> None:
    within = (sys.executable, "-c", DENIED)
    state = subprocess.run([*within, sys.executable, "-c", STATE], capture_output=True, text=True, check=True).stdout
    if int(state) != 1:
        pytest.skip("this kernel is older than 6.3, or has no such restriction")
    with Served("--workers", "1", within=within) as served:
        digit = (ROOT / "docs" / "seven.png").read_bytes()
        assert httpx.post(f"{served.ready().url}/predict", content=digit).json()["predictions"][0]["label"] == "7"
        assert served.stop() == 0
