"""What an installation compiles, and what it is where it cannot."""

import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tomllib
import zipfile
from pathlib import Path

import pytest

from benchmarks.compiled import PARTS, NotCompiledError, compiled
from tests.documents import ROOT
from tests.service.served import Served

CONFIGURATION = tomllib.loads((ROOT / "pyproject.toml").read_text())
LIMIT_S = 600


@pytest.fixture(scope="module")
def copy() -> Path:
    """The checkout, compiled."""
    try:
        return compiled(ROOT)
    except NotCompiledError:
        if "RESNET_TEST_ALL" in os.environ:
            raise
        pytest.skip("there is no C compiler")


@pytest.fixture
def sources(tmp_path: Path) -> Path:
    """What a wheel is made of, apart from the checkout."""
    for name in (*PARTS, "pyproject.toml", "README.md", "LICENSE"):
        (shutil.copytree if (ROOT / name).is_dir() else shutil.copy)(ROOT / name, tmp_path / name)
    return tmp_path


def without_compiler(*arguments: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run Python there, where no compiler works."""
    variables = os.environ | {"CC": "/bin/false", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, *arguments]
    return subprocess.run(command, cwd=folder, env=variables, capture_output=True, text=True, timeout=LIMIT_S)


@pytest.mark.usefixtures("copy")
def test_real_servers_of_the_tests_are_compiled() -> None:
    with Served("--log-format", "json") as served:
        served.wait_for_event("listening", compiled=True)


def test_the_garbage_collector_finds_each_member_once(copy: Path) -> None:
    """One that it counted twice would be destroyed while others hold it."""
    text = (copy / "build" / "__native_resnet_serve.c").read_text()
    functions = re.findall(r"_traverse\([^;]*?\{(.*?)return", text, re.DOTALL)
    visits = [re.findall(r"Py_VISIT\(self->(\w+)\)", body) for body in functions]
    assert sum(map(len, visits)) > 50
    assert [found for found in visits if len(set(found)) < len(found)] == []


@pytest.mark.slow
def test_without_a_compiler_the_sources_are_installed(sources: Path) -> None:
    """Of what another build had compiled nothing is left."""
    built = sources / "build" / f"lib.{sysconfig.get_platform()}-{sys.implementation.cache_tag}" / "service"
    built.mkdir(parents=True)
    (built / "policy.so").touch()
    ended = without_compiler("setup.py", "--quiet", "bdist_wheel", folder=sources)
    assert ended.returncode == 0, ended.stderr
    assert "nothing is compiled, requests take more time" in ended.stderr
    (wheel,) = (sources / "dist").glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    assert "service/prediction/request.py" in names
    assert [name for name in names if name.endswith(".so")] == []


@pytest.mark.slow
def test_benchmarks_do_not_take_the_sources_for_what_is_compiled(sources: Path) -> None:
    program = "from pathlib import Path; from benchmarks.compiled import compiled; compiled(Path.cwd())"
    assert "NotCompiledError: nothing is compiled" in without_compiler("-c", program, folder=sources).stderr
    assert [path.name for path in (sources / "build" / "compiled").iterdir() if path.is_dir()] == ["unfinished"]


def test_developers_have_the_compiler_that_compiles_it() -> None:
    """Whose findings `make check` tells."""
    developers = CONFIGURATION["project"]["optional-dependencies"]["dev"]
    assert [one for one in CONFIGURATION["build-system"]["requires"] if one.startswith("mypy==") and one in developers]
