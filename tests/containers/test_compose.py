"""The compose files, started by Compose itself: locked down, with other models, and restarted without an error."""

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

import httpx
import pytest
import yaml

from tests.containers.engine import FLAGS, TAG, Run
from tests.documents import ROOT, blocks
from tests.faults.balancer import balanced
from tests.faults.ledger import load
from tests.service.served import Served, environment, free_port, until

pytestmark = pytest.mark.slow


DOCUMENT = (ROOT / "docs" / "operations.md").read_text()
UP = "docker compose --file deploy/compose.replicas.yaml "
BUILT = f"{TAG}-by-compose"
NAMES = {"resnet-serve": BUILT, "resnet-serve:before": f"{BUILT}-before"}
MODELS = {"RESNET_SERVE_MODEL_REPOSITORY": "/models", "RESNET_SERVE_DEFAULT_MODEL": "faulty"}


class Stack:
    """A compose file whose servers are reached on free ports of the host, without a bridge between them."""

    def __init__(self, program: list[str], file: str, folder: Path, *names: str, models: str = "") -> None:
        self.ports = {name: free_port() for name in names}
        services = {name: {"image": BUILT, **self._of_host(port)} for name, port in self.ports.items()}
        if models:
            for service in services.values():
                service["volumes"] = [f"{models}:/models:ro"]
                service["environment"] |= MODELS
        override = folder / "override.yaml"
        override.write_text(yaml.safe_dump({"services": services}).replace("'!reset'", "!reset []"))
        project = ("--project-name", f"resnet-serve-test-{os.getpid()}")
        self._command = [*program, *project, "--file", str(ROOT / "deploy" / file), "--file", str(override)]

    @staticmethod
    def _of_host(port: int) -> dict[str, Any]:
        return {
            "network_mode": "host",
            "networks": "!reset",
            "ports": "!reset",
            "build": {"network": "host"},
            "environment": {"RESNET_SERVE_PORT": str(port)},
            "healthcheck": {"interval": "2s", "start_period": "300s"},
        }

    def run(self, *arguments: str) -> str:
        """A command of Compose that must succeed."""
        ended = subprocess.run(
            [*self._command, *arguments],
            env=environment(GRAFANA_PASSWORD="-"),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        assert ended.returncode == 0, ended.stdout
        return ended.stdout

    def url(self, name: str) -> str:
        return f"http://127.0.0.1:{self.ports[name]}"


@pytest.fixture(scope="module")
def compose(image: str) -> list[str]:  # noqa: ARG001 - without an engine there is nothing to compose
    """The command of Compose, a plugin of the engine or a program of its own."""
    for program in ([os.environ.get("DOCKER", "docker"), "compose"], ["docker-compose"]):
        if shutil.which(program[0]) and subprocess.run([*program, "version"], capture_output=True).returncode == 0:
            return program
    pytest.skip("neither `docker compose` nor `docker-compose` is installed")


@pytest.fixture
def stack(compose: list[str], tmp_path: Path, docker: Run) -> Iterator[Callable[..., Stack]]:
    """Compose files, whose containers end with the test."""
    made: list[Stack] = []

    def make(file: str, *names: str, models: str = "") -> Stack:
        made.append(Stack(compose, file, tmp_path, *names, models=models))
        return made[-1]

    yield make
    for each in made:
        each.run("logs")
        each.run("down", "--volumes")
    docker("image", "rm", BUILT)


def test_compose_starts_the_service_locked_down(stack: Callable[..., Stack]) -> None:
    """It builds the image, waits for its health, and every part of the file is one that it knows."""
    service = stack("compose.yaml", "resnet-serve")
    service.run("up", "--detach", "--build", "--wait", "resnet-serve")
    digit = (ROOT / "docs" / "seven.png").read_bytes()
    answer = httpx.post(f"{service.url('resnet-serve')}/predict", content=digit, timeout=30)
    assert answer.json()["predictions"][0]["label"] == "7"
    status = service.run("exec", "-T", "resnet-serve", "cat", "/proc/1/status")
    fields = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
    assert {fields[name] for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")} == {"0" * 16}
    assert (fields["NoNewPrivs"], fields["Seccomp"], fields["Uid"].split()[0]) == ("1", "2", "10001")


def test_an_upgrade_and_the_way_back_fail_no_request(
    require: Callable[[str], str], stack: Callable[..., Stack], repository: Path, tmp_path: Path, docker: Run
) -> None:
    """The lines of docs/operations.md, behind HAProxy, under load; models are in a volume."""
    upgrade, back = (block.script for block in blocks(DOCUMENT) if block.script.startswith("docker tag "))
    replicas = stack("compose.replicas.yaml", "one", "two", models=str(repository))
    replicas.run("up", "--detach", "--build", "--wait", "one", "two")
    ports = list(replicas.ports.values())
    with balanced("haproxy", require("haproxy"), tmp_path, ports) as balancer, load(cast(Served, balancer)) as ledger:
        for line in (upgrade + back).splitlines():
            name = line.split()[-1]
            if line.startswith(UP):
                before = replicas.run("ps", "--quiet", name)
                replicas.run(*line.removeprefix(UP).split())
                assert replicas.run("ps", "--quiet", name) != before
                ledger.wait_for(20)
                until(lambda name=name: _answered(replicas.url(name)) > 20, "the new one to get its share")
            elif line == "make image":
                docker("build", *FLAGS, "--label", "newer=yes", "--tag", BUILT, str(ROOT))
            else:
                docker(*(NAMES.get(word, word) for word in line.split()[1:]))
    docker("image", "rm", NAMES["resnet-serve:before"])
    assert set(ledger.summary()) == {(200, "")}


def _answered(url: str) -> float:
    text = httpx.get(f"{url}/metrics", timeout=30).text
    series = 'resnet_requests_total{model="faulty",outcome="ok",version="1"} '
    return next((float(line.removeprefix(series)) for line in text.splitlines() if line.startswith(series)), 0.0)
