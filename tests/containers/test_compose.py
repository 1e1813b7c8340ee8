"""The compose files, started by Compose itself: locked down, with other models, and restarted without an error."""

import hashlib
import json
import os
import re
import subprocess
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, cast

import httpx
import pytest
import yaml

from tests.containers.engine import FLAGS, TAG, Run
from tests.documents import ROOT, blocks
from tests.faults.balancer import Balancer, balanced
from tests.faults.ledger import load
from tests.prometheus import Prometheus
from tests.service.served import Served, environment, free_port, until

pytestmark = pytest.mark.slow


DOCUMENT = (ROOT / "docs" / "operations.md").read_text()
DIGIT = (ROOT / "docs" / "seven.png").read_bytes()
UP = "docker compose --file deploy/compose.replicas.yaml "
BUILT = f"{TAG}-by-compose"
LABEL = "resnet-serve-test"  # of what is built here: images that lost their names are found by it
NAMES = {"resnet-serve": BUILT, "resnet-serve:before": f"{BUILT}-before"}
MODELS = {"RESNET_SERVE_MODEL_REPOSITORY": "/models", "RESNET_SERVE_DEFAULT_MODEL": "faulty"}


class Stack:
    """Compose files whose servers are reached on free ports of this machine."""

    def __init__(self, program: list[str], folder: Path, files: tuple[str, ...], names: tuple[str, ...]) -> None:
        self.ports = {name: free_port() for name in names}
        self._services: dict[str, dict[str, Any]] = {name: self._changed(port) for name, port in self.ports.items()}
        self._override = folder / "override.yaml"
        project = ("--project-name", f"resnet-serve-test-{os.getpid()}")
        paths = (*(ROOT / "deploy" / file for file in files), self._override)
        self._command = [*program, *project, *(word for path in paths for word in ("--file", str(path)))]

    @staticmethod
    def _changed(port: int) -> dict[str, Any]:
        return {
            "image": BUILT,
            "build": {"network": "host", "labels": {LABEL: "by-compose"}},
            "ports": [f"127.0.0.1:{port}:8000"],
            "healthcheck": {"interval": "2s", "start_period": "300s"},
        }

    def change(self, name: str, **parts: Any) -> None:
        """Give a service other parts than its file has."""
        self._services[name] |= parts

    def publish(self, name: str, port: int) -> None:
        """A port of a service whose image is another's, on a free one of this machine."""
        self.ports[name] = free_port()
        self._services[name] = {"ports": [f"127.0.0.1:{self.ports[name]}:{port}"]}

    def run(self, *arguments: str) -> str:
        """A command of Compose that must succeed."""
        text = yaml.safe_dump({"services": self._services})
        self._override.write_text(re.sub(r"^( +(?:ports|volumes):)$", r"\1 !override", text, flags=re.MULTILINE))
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

    def status(self, name: str, **headers: str) -> int:
        """Of the answer to a picture with these headers."""
        return httpx.post(f"{self.url(name)}/predict", content=DIGIT, headers=headers, timeout=30).status_code


@pytest.fixture
def stack(image: str, compose: list[str], tmp_path: Path, docker: Run) -> Iterator[Callable[..., Stack]]:  # noqa: ARG001
    """Compose files, whose containers end with the test."""
    made: list[Stack] = []

    def make(*files: str, names: tuple[str, ...] = ("resnet-serve",)) -> Stack:
        made.append(Stack(compose, tmp_path, files, names))
        return made[-1]

    yield make
    for each in made:
        each.run("logs")
        each.run("down", "--volumes")
    if made:
        docker("image", "rm", BUILT)
        docker("image", "prune", "--force", "--filter", f"label={LABEL}")


def test_compose_starts_the_service_locked_down(stack: Callable[..., Stack], docker: Run) -> None:
    """It builds the image, waits for its health, and every part of the file is one that it knows."""
    service = stack("compose.yaml")
    service.run("up", "--detach", "--build", "--wait", "resnet-serve")
    answer = httpx.post(f"{service.url('resnet-serve')}/predict", content=DIGIT, timeout=30)
    assert answer.json()["predictions"][0]["label"] == "7"
    status = service.run("exec", "-T", "resnet-serve", "cat", "/proc/1/status")
    fields = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
    assert {fields[name] for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")} == {"0" * 16}
    assert (fields["NoNewPrivs"], fields["Seccomp"], fields["Uid"].split()[0]) == ("1", "2", "10001")
    options = docker("inspect", "--format", "{{json .HostConfig.SecurityOpt}}", service.run("ps", "--quiet").strip())
    (profile,) = (option[len("seccomp=") :] for option in json.loads(options) if option.startswith("seccomp"))
    assert json.loads(profile) == json.loads((ROOT / "deploy" / "seccomp.json").read_text())


def test_a_key_taken_away_by_an_editor_is_refused(stack: Callable[..., Stack], tmp_path: Path) -> None:
    """An editor puts a new file in the old one's place; SIGHUP has it read."""
    secrets = tmp_path / "secrets"
    secrets.mkdir()
    (secrets / "keys").write_text(_line("alice") + _line("bob"))
    service = stack("compose.yaml", "compose.keys.yaml")
    service.change("resnet-serve", volumes=[f"{secrets}:/run/secrets:ro"])
    service.run("up", "--detach", "--build", "--wait", "resnet-serve")
    asked = {name: {"X-API-Key": name * 8} for name in ("alice", "bob")}
    assert service.status("resnet-serve") == 401
    assert {name: service.status("resnet-serve", **key) for name, key in asked.items()} == {"alice": 200, "bob": 200}
    (secrets / "new").write_text(_line("bob"))
    (secrets / "new").replace(secrets / "keys")
    service.run("kill", "--signal", "HUP", "resnet-serve")
    until(lambda: service.status("resnet-serve", **asked["alice"]) == 401, "the key that was taken away to be refused")
    assert service.status("resnet-serve", **asked["bob"]) == 200


def test_an_upgrade_and_the_way_back_fail_no_request(
    require: Callable[[str], str], stack: Callable[..., Stack], repository: Path, tmp_path: Path, docker: Run
) -> None:
    """The lines of docs/operations.md, behind HAProxy, under load; models are in a volume."""
    upgrade, back = (block.script for block in blocks(DOCUMENT) if block.script.startswith("docker tag "))
    replicas = with_models(stack("compose.replicas.yaml", names=("one", "two")), repository)
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
                until(partial(_has_its_share, replicas.url(name)), "the new one to get its share")
            elif line == "make image":
                docker("build", *FLAGS, "--label", f"{LABEL}=newer", "--tag", BUILT, str(ROOT))
            else:
                docker(*(NAMES.get(word, word) for word in line.split()[1:]))
    docker("image", "rm", NAMES["resnet-serve:before"])
    assert set(ledger.summary()) == {(200, "")}


def test_replicas_are_replaced_behind_the_balancer_of_the_file(
    stack: Callable[..., Stack], repository: Path, docker: Run
) -> None:
    """Each has another address afterwards, which HAProxy asks Docker for."""
    obtain(docker, "compose.replicas.yaml", "haproxy")
    replicas = with_models(stack("compose.replicas.yaml", names=("one", "two")), repository)
    replicas.publish("haproxy", 8080)
    replicas.run("up", "--detach", "--build", "--wait")
    with load(cast(Served, Balancer(("127.0.0.1", replicas.ports["haproxy"])))) as ledger:
        for name in ("one", "two"):
            replicas.run("up", "--detach", "--no-deps", "--force-recreate", "--wait", name)
            until(partial(_has_its_share, replicas.url(name)), "the new one to get its share")
    assert set(ledger.summary()) == {(200, "")}


def test_prometheus_finds_each_replica(stack: Callable[..., Stack], docker: Run) -> None:
    """That of one file those of the other."""
    obtain(docker, "compose.yaml", "prometheus")
    watched = stack("compose.yaml", "compose.replicas.yaml", "compose.watched.yaml", names=("one", "two"))
    watched.publish("prometheus", 9090)
    watched.run("up", "--detach", "--build", "--wait", "one", "two", "prometheus")
    prometheus = Prometheus(f"127.0.0.1:{watched.ports['prometheus']}")
    until(prometheus.is_ready, "Prometheus")
    until(lambda: prometheus.value('sum(up{job="resnet-serve"})') == 2, "the first scrape of both")
    watched.run("stop", "two")
    until(lambda: prometheus.value('up{instance="two:8000"}') == 0, "a scrape of one that is gone")
    groups = httpx.get(f"{prometheus.url}/api/v1/rules").json()["data"]["groups"]
    assert {Path(group["file"]).name for group in groups} == {"recording.yml", "alerts.yml"}


def obtain(docker: Run, file: str, name: str) -> None:
    """Have the image of a service, or skip the test."""
    image = yaml.safe_load((ROOT / "deploy" / file).read_text())["services"][name]["image"]
    for command in (("image", "inspect"), ("pull",)):
        with suppress(AssertionError):
            docker(*command, image)
            return
    pytest.skip(f"the engine has no {image}, and could not pull it")


def with_models(replicas: Stack, repository: Path) -> Stack:
    """The same, with these models in a volume."""
    for name in ("one", "two"):
        replicas.change(name, volumes=[f"{repository}:/models:ro"], environment=MODELS)
    return replicas


def _line(name: str) -> str:
    """Of a file of keys: the name, and the digest of its key, which is the name eight times."""
    return f"{name} predict {hashlib.sha256((name * 8).encode()).hexdigest()}\n"


def _has_its_share(url: str) -> bool:
    """Whether a server has answered some of the load."""
    text = httpx.get(f"{url}/metrics", timeout=30).text
    series = 'resnet_requests_total{model="faulty",outcome="ok",version="1"} '
    return any(float(line.removeprefix(series)) > 20 for line in text.splitlines() if line.startswith(series))
