"""What every test may ask for."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from models.artifact import Artifact

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder with the full MNIST, CIFAR-10 and photographs; a clone of the project has none."""
    path = Path(os.environ.get("RESNET_SERVE_TEST_DATA", ROOT.parent / "shared" / "data"))
    if not path.is_dir():
        pytest.skip(f"no data sets at {path}; set RESNET_SERVE_TEST_DATA to a folder with MNIST/, cifar10/, photos/")
    return path


@pytest.fixture(scope="session")
def require() -> Callable[[str], str]:
    """Give the path of a program; without it the test is skipped, or fails where RESNET_SERVE_TEST_ALL is set."""

    def find(program: str) -> str:
        path = shutil.which(program)
        if path is None:
            missing = pytest.fail if os.environ.get("RESNET_SERVE_TEST_ALL") else pytest.skip
            missing(f"{program} is not installed; .ci/run installs it from Debian's packages")
        return path

    return find


@pytest.fixture(scope="session")
def digit_network(tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    """A small network with batch norm for grey pictures, ten classes, in a repository of its own."""
    from tests.networks import release_network  # imports torch

    return release_network(tmp_path_factory.mktemp("digits"), "mnist-residual-bn", 10)


@pytest.fixture(scope="session")
def colour_network(tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    """A network for colour pictures, built with an argument and a class count of its own."""
    from tests.networks import release_network

    return release_network(tmp_path_factory.mktemp("colour"), "resnet20", 7, shortcut="B")
