"""A container engine, and the image that is built by it. Without one these tests are skipped."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.artifacts import make_artifact
from tests.containers.engine import TAG, Run
from tests.documents import ROOT
from tests.faults.ledger import DEAR, PHOTOS


@pytest.fixture(scope="session")
def docker() -> Run:
    """Run a command of the container engine and give its output, of both streams."""
    program = os.environ.get("DOCKER", "docker")

    def run(*arguments: str) -> str:
        command = [program, *arguments]
        ended = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        assert ended.returncode == 0, ended.stdout
        return ended.stdout.strip()

    try:
        run("version", "--format", "{{.Server.Version}}")
    except (OSError, AssertionError):
        pytest.skip(f"no container engine answers to `{program} version`")
    return run


@pytest.fixture(scope="session")
def image(docker: Run) -> Iterator[str]:
    """The image, built as users build it."""
    subprocess.run(["make", "image", f"IMAGE={TAG}"], cwd=ROOT, check=True)
    yield TAG
    docker("image", "rm", TAG)


@pytest.fixture(scope="session")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Models whose answers are known, for every user to read."""
    path = tmp_path_factory.mktemp("models")
    make_artifact(path, "faulty")
    make_artifact(path, DEAR)
    make_artifact(path, PHOTOS[0], shape=PHOTOS[1])
    for found in (path, *path.rglob("*")):
        found.chmod(0o755 if found.is_dir() else 0o644)
    return path
