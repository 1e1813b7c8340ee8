"""The unit, as systemd itself reads it."""

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from service.settings import Settings
from tests.documents import ROOT

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
