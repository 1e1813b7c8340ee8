"""What every test may ask for."""

import os
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
