"""Servers that are to be hurt: each test starts its own."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.artifacts import make_artifact
from tests.service.served import Served, Servers

# Values of a picture's first pixel that make the graph misbehave.
HANGS, FAILS = 1, 13
HANG_LOOPS = 1_000_000  # of about a millisecond each


@pytest.fixture(scope="session")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One model, whose graph loops for ever or fails when a picture asks for it."""
    path = tmp_path_factory.mktemp("faulty")
    make_artifact(path, "faulty", loops={HANGS: HANG_LOOPS}, fails={FAILS})
    return path


@pytest.fixture
def serve(repository: Path) -> Iterator[Callable[..., Served]]:
    """Start servers of that model for one test."""
    servers = Servers()
    yield lambda *flags, **how: servers("--model-repository", repository, *flags, **how)
    servers.close()
