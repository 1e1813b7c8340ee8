"""Released models to give out, and a web server that does."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.artifacts import make_artifact
from tests.service.remote.stores import RunningStore, web


@pytest.fixture
def released(tmp_path: Path) -> Path:
    """A repository of `digits` in three versions and `birds` in one."""
    folder = tmp_path / "released"
    for version in (1, 2, 10):
        make_artifact(folder, "digits", version)
    make_artifact(folder, "birds", labels=("hen", "jay"))
    return folder


@pytest.fixture
def website(released: Path) -> Iterator[RunningStore]:
    with web(released) as store:
        yield store
