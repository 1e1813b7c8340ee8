"""The commands of the Makefile, and above all the first that anyone gives: `make serve`."""

import json
import os
import re
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.service.served import environment, until

ROOT = Path(__file__).resolve().parent.parent
FRESH = ("Makefile", "pyproject.toml", "setup.py", "README.md", "LICENSE", "docs", "models", "service", "training")


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """The project as a fresh machine has it, without `.venv`."""
    for name in FRESH:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / name, tmp_path)
    return tmp_path


@pytest.fixture
def served(clone: Path) -> Iterator[subprocess.Popen[str]]:
    """`make serve` in the clone, in a session of its own, its output in the file `log`."""
    if "RESNET_TEST_ALL" not in os.environ:
        pytest.skip("installs packages from the index; set RESNET_TEST_ALL=1 to run it")
    command = ["make", "serve", "ARGS=--port 0 --log-format json"]
    with (clone / "log").open("w") as log:
        process = subprocess.Popen(command, cwd=clone, env=_outside(), stderr=log, text=True, start_new_session=True)
    yield process
    if _alive(process.pid):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


@pytest.mark.slow
def test_make_serve_is_all_that_a_fresh_machine_needs(clone: Path, served: subprocess.Popen[str]) -> None:
    """It installs, serves the zoo, and ends without a trace; a second time there is nothing to install."""
    url = until(lambda: _url(clone / "log") or served.poll() is not None, "the server's URL", deadline_s=600)
    assert served.poll() is None, (clone / "log").read_text()
    until(lambda: httpx.get(f"{url}/readyz").status_code == 200, "readiness")
    answer = httpx.post(f"{url}/predict", content=(ROOT / "docs" / "seven.png").read_bytes(), timeout=30)
    assert answer.json()["predictions"][0]["label"] == "7"
    packages = {path.name.partition("-")[0] for path in (clone / ".venv").glob("lib/*/site-packages/*.dist-info")}
    assert "onnxruntime" in packages
    assert not {"torch", "torchvision", "pytest"} & packages
    assert list((clone / ".venv").glob("lib/*/site-packages/service/prediction/request.*.so"))

    served.terminate()
    until(lambda: served.poll() is not None and not _alive(served.pid), "the end of every process")
    again = subprocess.run(["make", "-n", "serve"], cwd=clone, env=_outside(), capture_output=True, text=True)
    assert again.stdout.split() == [".venv/bin/resnet-serve"]
    (clone / "service" / "a new: one.py").write_text("")
    again = subprocess.run(["make", "-n", "serve"], cwd=clone, env=_outside(), capture_output=True, text=True)
    assert ".venv/bin/python -m pip install" in again.stdout


def test_make_says_which_python_it_needs(tmp_path: Path) -> None:
    """No traceback and no half-made environment where there is no Python 3.11."""
    command = ["make", "install", "PYTHON=", f"VENV={tmp_path / 'venv'}"]
    ended = subprocess.run(command, cwd=ROOT, env=_outside(), capture_output=True, text=True)
    assert ended.returncode == 2
    assert "Python 3.11 or newer is needed" in ended.stderr
    assert not (tmp_path / "venv").exists()


def test_make_bench_says_that_it_needs_wrk_before_it_installs_anything(tmp_path: Path) -> None:
    command = [shutil.which("make") or "", "bench", "PYTHON=", f"VENV={tmp_path / 'venv'}"]
    alone = _outside() | {"PATH": str(tmp_path)}
    ended = subprocess.run(command, cwd=ROOT, env=alone, capture_output=True, text=True)
    assert ended.returncode == 2
    assert "apt-get install wrk" in ended.stderr


def test_make_test_starts_as_many_processes_as_it_is_told() -> None:
    assert "--numprocesses auto " in _dry_run("test", "JOBS=auto")
    assert "--numprocesses 5 " in _dry_run("test", "JOBS=5", "ARGS=--quiet")


def test_make_soak_is_as_long_as_it_is_told() -> None:
    """Each round of the fault suite with so many hostile bodies, then the load."""
    said = _dry_run("soak", "MINUTES=2", "ROUNDS=4", "HOSTILE=50")
    assert "seq 4" in said
    assert "RESNET_TEST_HOSTILE=50 .venv/bin/python -m pytest tests/faults" in said
    assert ".venv/bin/python -m benchmarks.soak --minutes 2" in said


def test_make_check_looks_at_all_that_is_installed_for_flaws() -> None:
    assert "bandit --quiet --configfile pyproject.toml --recursive models service training" in _dry_run("check")


def test_contributing_has_every_verb_and_every_variable() -> None:
    makefile, document = (ROOT / "Makefile").read_text(), (ROOT / "CONTRIBUTING.md").read_text()
    verbs = re.findall(r"^([a-z-]+):.* ## ", makefile, re.MULTILINE)
    variables = re.findall(r"^([A-Z]+) \?=", makefile, re.MULTILINE)
    assert len(verbs) > 10
    assert [verb for verb in verbs if f"`make {verb}`" not in document] == []
    assert [name for name in [*variables, "ARGS"] if f"`{name}`" not in document] == []


def _dry_run(*arguments: str) -> str:
    """What make would run."""
    command = ["make", "-n", *arguments]
    return subprocess.run(command, cwd=ROOT, env=_outside(), capture_output=True, text=True, check=True).stdout


def _outside() -> dict[str, str]:
    """The environment without what a surrounding `make test` or an active virtual environment put there."""
    return {name: value for name, value in environment().items() if not name.startswith(("MAKE", "MFLAGS", "VIRTUAL"))}


def _url(log: Path) -> str | None:
    records = (json.loads(line) for line in log.read_text().splitlines() if line.startswith("{"))
    return next((record["url"] for record in records if record["event"] == "listening"), None)


def _alive(session: int) -> bool:
    try:
        os.killpg(session, 0)
    except ProcessLookupError:
        return False
    return True
