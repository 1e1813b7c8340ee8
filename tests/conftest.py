"""What every test may ask for."""

import os
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

from models.artifact.artifact import Artifact, read_artifact

# what helpers compare is shown, too, when it differs
pytest.register_assert_rewrite("tests.faults", "tests.service")
from tests.service.served import Served  # noqa: E402

# what is drawn is the same each time, and depends on no speed
settings.register_profile("steady", derandomize=True, deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("steady")

ROOT = Path(__file__).resolve().parent.parent
COMPOSE = [2, 24]  # knows `!override`, and waits for health


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder with the full MNIST, CIFAR-10 and photographs; a clone of the project has none."""
    path = Path(os.environ.get("RESNET_TEST_DATA", ROOT.parent / "shared" / "data"))
    if not path.is_dir():
        pytest.skip(f"no data sets at {path}; set RESNET_TEST_DATA to a folder with MNIST/, cifar10/, photos/")
    return path


@pytest.fixture(scope="session")
def require() -> Callable[[str], str]:
    """Give the path of a program; without it the test is skipped, or fails where RESNET_TEST_ALL is set."""

    def find(program: str) -> str:
        path = shutil.which(program)
        if path is None:
            missing = pytest.fail if os.environ.get("RESNET_TEST_ALL") else pytest.skip
            missing(f"{program} is not installed; .ci/run installs it from Debian's packages")
        return path

    return find


@pytest.fixture(scope="session")
def compose() -> list[str]:
    """The command of Docker Compose: a plugin of the engine's client, or a program. Without it the test is skipped."""
    for command in ([os.environ.get("DOCKER", "docker"), "compose"], ["docker-compose"]):
        if shutil.which(command[0]):
            version = subprocess.run([*command, "version", "--short"], capture_output=True, text=True).stdout
            numbers = [int(number) for number in re.findall(r"\d+", version)[:2]]
            if numbers >= COMPOSE:
                return command
    pytest.skip("Docker Compose 2.24 or newer is not installed; CONTRIBUTING.md tells how to get it")


@pytest.fixture(scope="session")
def networks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository of two small networks with batch norm, untrained, each with its weights."""
    from tests.networks import release_network  # imports torch

    repository = tmp_path_factory.mktemp("networks")
    release_network(repository, "mnist-residual-bn", 10)
    release_network(repository, "resnet20", 7, shortcut="B")
    return repository


@pytest.fixture(scope="session")
def digit_network(networks: Path) -> Artifact:
    """For grey pictures, ten classes."""
    return read_artifact(networks / "mnist-residual-bn" / "1")


@pytest.fixture(scope="session")
def colour_network(networks: Path) -> Artifact:
    """For colour pictures, built with an argument and a class count of its own."""
    return read_artifact(networks / "resnet20" / "1")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Any:
    """Show the log of a failed test's servers."""
    report = yield
    if report.failed:
        for name, value in getattr(item, "funcargs", {}).items():
            for served in [value] if isinstance(value, Served) else getattr(value, "started", []):
                report.sections.append((f"log of {name}", "\n".join(served.lines[-50:])))
    return report
