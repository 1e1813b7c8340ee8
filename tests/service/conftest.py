"""Real servers for the tests of the service; one that only answers is shared by the whole session."""

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from models.artifact.artifact import Artifact, read_artifact
from tests.service.served import DEADLINE_S, Served, Servers
from tests.service.stock import MAX_BODY_BYTES, MAX_IMAGES, MAX_PIXELS, make_repository


@pytest.fixture
def serve() -> Iterator[Servers]:
    """Start servers for one test."""
    servers = Servers()
    yield servers
    servers.close()


@pytest.fixture(scope="module")
def serve_module() -> Iterator[Servers]:
    """Start servers for the tests of one module."""
    servers = Servers()
    yield servers
    servers.close()


@pytest.fixture(scope="session")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The models of the shared server."""
    return make_repository(tmp_path_factory.mktemp("repository"))


@pytest.fixture(scope="session")
def artifact(repository: Path) -> Artifact:
    """The newest version of the model that is as it should be."""
    return read_artifact(repository / "plain" / "2")


@pytest.fixture(scope="session")
def server(repository: Path) -> Iterator[Served]:
    """One server for every test that only asks it something."""
    limits = ("--max-body-bytes", str(MAX_BODY_BYTES), "--max-images-per-request", str(MAX_IMAGES))
    flags = ("--model-repository", repository, "--default-model", "plain", "--max-pixels", str(MAX_PIXELS))
    with Served(*flags, *limits, "--workers", "1") as served:
        yield served.ready()
        assert served.stop() == 0, served.log


@pytest.fixture(scope="session")
def client(server: Served) -> Iterator[httpx.Client]:
    """An HTTP client of the shared server."""
    with httpx.Client(base_url=server.url, timeout=DEADLINE_S) as client:
        yield client
