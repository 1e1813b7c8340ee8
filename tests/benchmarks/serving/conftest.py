from pathlib import Path

import pytest

from benchmarks.serving.workloads import Workload
from models.artifact.artifact import read_artifact
from tests.artifacts import make_artifact


@pytest.fixture(scope="session")
def workload(tmp_path_factory: pytest.TempPathFactory) -> Workload:
    """Some bytes for a model that is computed by hand."""
    repository: Path = tmp_path_factory.mktemp("workload")
    artifact = read_artifact(make_artifact(repository, "animals"))
    return Workload(
        "photo", b"\0image\r\n\xff", "image/png", repository, artifact, top_k=3, connections=(32,), load_s=1
    )
