"""What every test may ask for."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

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
