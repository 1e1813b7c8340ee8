"""schemathesis asks a server what its OpenAPI document allows, and what it forbids, and finds nothing undocumented."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.artifacts import make_artifact
from tests.service.served import DEADLINE_S, Served, Servers

CONFIGURATION = Path(__file__).with_name("schemathesis.toml")
EXAMPLES = 8  # of each operation, beside those that cover its schema


@pytest.fixture(scope="module")
def server(serve_module: Servers, tmp_path_factory: pytest.TempPathFactory) -> Served:
    """One that has nothing in it that fails."""
    repository = tmp_path_factory.mktemp("repository")
    make_artifact(repository, "plain")
    return serve_module("--model-repository", repository, "--workers", "1").ready()


@pytest.mark.slow
def test_schemathesis_finds_nothing(server: Served, tmp_path: Path) -> None:
    command = [Path(sys.executable).with_name("schemathesis"), "--config-file", CONFIGURATION, "run", "--seed", "1"]
    limits = ["--checks", "all", "--phases", "examples,coverage,fuzzing", "--max-examples", str(EXAMPLES), "--no-color"]
    document = f"{server.url}/openapi.json"
    ran = subprocess.run(
        [*command, *limits, document], cwd=tmp_path, capture_output=True, text=True, timeout=DEADLINE_S, check=False
    )
    assert ran.returncode == 0, ran.stdout
    assert re.search(r"Operations: +(\d+) selected / \1 total", ran.stdout)
    assert not server.events("request failed", status=500)
