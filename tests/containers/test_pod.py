"""The manifests of Kubernetes as a pod that runs: `podman play kube` starts what kustomize builds."""

import shutil
import subprocess
from collections.abc import Callable, Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from tests.containers.engine import Run
from tests.deploy.test_kubernetes import built
from tests.documents import ROOT
from tests.service.served import environment, free_port, until

pytestmark = pytest.mark.slow

POD, CONTAINER = "resnet-serve-pod-0", "resnet-serve-pod-0-resnet-serve"
# podman allows a container more open files and processes than some machines have to give.
LIMITS = '[containers]\ndefault_ulimits = ["nofile=4096:4096", "nproc=4096:4096"]\n'


@pytest.fixture(scope="module")
def podman(docker: Run, image: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    """Run a command of podman, which has the image, and give its output."""
    program, folder = shutil.which("podman"), tmp_path_factory.mktemp("podman")
    if program is None:
        pytest.skip("podman is not installed")
    runtimes = [name for name in ("crun", "runc") if shutil.which(name)]
    settings = folder / "containers.conf"
    settings.write_text(f'{LIMITS}[engine]\nruntime = "{runtimes[0]}"\n' if runtimes else LIMITS)

    def run(*arguments: str) -> str:
        ended = subprocess.run(
            [program, *arguments], env=environment(CONTAINERS_CONF=str(settings)), capture_output=True, text=True
        )
        assert ended.returncode == 0, ended.stdout + ended.stderr
        return ended.stdout.strip()

    docker("save", "--output", str(folder / "image.tar"), image)
    run("load", "--quiet", "--input", str(folder / "image.tar"))
    yield run
    run("image", "rm", image)


@pytest.fixture
def pod(podman: Run, image: str, require: Callable[[str], str], tmp_path: Path) -> Iterator[str]:
    """The Deployment's pod on a free port, started; its URL."""
    port = free_port()
    path = tmp_path / "pod.yaml"
    path.write_text(yaml.safe_dump(_on_port(deepcopy(built(require("kubectl"), "cpu")["Deployment"]), image, port)))
    podman("play", "kube", str(path))
    yield f"http://127.0.0.1:{port}"
    podman("play", "kube", "--down", str(path))


def test_the_pod_serves_with_no_right_at_all_and_drains(pod: str, podman: Run) -> None:
    until(lambda: _status(f"{pod}/readyz") == 200, "readiness")
    digit = (ROOT / "docs" / "seven.png").read_bytes()
    answer = httpx.post(f"{pod}/predict", content=digit, timeout=30)
    assert answer.json()["predictions"][0]["label"] == "7"
    status = Path(f"/proc/{podman('inspect', '--format', '{{.State.Pid}}', CONTAINER)}/status").read_text()
    fields = dict(line.split(":\t", 1) for line in status.splitlines())
    assert {fields[name] for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")} == {"0" * 16}
    assert (fields["NoNewPrivs"], fields["Seccomp"], fields["Uid"].split()[0]) == ("1", "2", "10001")
    podman("pod", "stop", "--time", "40", POD)
    assert podman("inspect", "--format", "{{.State.ExitCode}} {{.State.OOMKilled}}", CONTAINER) == "0 false"


def _on_port(deployment: dict[str, Any], image: str, port: int) -> dict[str, Any]:
    """The Deployment with an image that is here, on a port of the host that is free."""
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    container["image"] = f"localhost/{image}"
    container["ports"][0]["containerPort"] = port
    container["env"].append({"name": "RESNET_SERVE_PORT", "value": str(port)})
    return deployment


def _status(url: str) -> int:
    try:
        return httpx.get(url, timeout=30).status_code
    except httpx.TransportError:
        return 0
