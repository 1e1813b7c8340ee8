"""What an installation compiles, and what it is where it cannot."""

import os
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

from tests.documents import ROOT
from tests.service.served import Served

CONFIGURATION = tomllib.loads((ROOT / "pyproject.toml").read_text())


def wheel(folder: Path, **variables: str) -> list[str]:
    """The names in the wheel that this project becomes with these variables."""
    for name in ("service", "setup.py", "pyproject.toml", "README.md", "LICENSE"):
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, folder / name)
    (folder / "models").symlink_to(ROOT / "models")
    command = [sys.executable, "setup.py", "--quiet", "bdist_wheel"]
    subprocess.run(command, cwd=folder, env=os.environ | variables, check=True, capture_output=True, timeout=600)
    (path,) = (folder / "dist").glob("*.whl")
    return zipfile.ZipFile(path).namelist()


def test_the_server_of_these_tests_is_compiled() -> None:
    if "RESNET_TEST_ALL" not in os.environ and not shutil.which("cc"):
        pytest.skip("there is no C compiler")
    with Served("--log-format", "json") as served:
        served.wait_for_event("listening", compiled=True)


@pytest.mark.slow
def test_without_a_compiler_the_sources_are_installed(tmp_path: Path) -> None:
    names = wheel(tmp_path, CC="/bin/false")
    assert "service/prediction/request.py" in names
    assert [name for name in names if name.endswith(".so")] == []


def test_developers_have_the_compiler_that_compiles_it() -> None:
    """Whose findings `make check` tells."""
    developers = CONFIGURATION["project"]["optional-dependencies"]["dev"]
    assert [one for one in CONFIGURATION["build-system"]["requires"] if one.startswith("mypy==") and one in developers]
