"""The compose files, read by Compose, and against the image and the load balancer that they start."""

import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from service.config.settings import ENV_PREFIX, Settings
from tests.documents import ROOT
from tests.service.served import environment

DEPLOY = ROOT / "deploy"
FILES = ("compose.yaml", "compose.replicas.yaml")
OURS = [("compose.yaml", "resnet-serve"), ("compose.replicas.yaml", "one"), ("compose.replicas.yaml", "two")]


def services(file: str) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = yaml.safe_load((DEPLOY / file).read_text())["services"]
    return found


def documented() -> list[tuple[tuple[str, ...], tuple[str, ...]]]:
    """The variables and files of each `docker compose` command in the document and in the files' own heads."""
    texts = [path.read_text() for path in (ROOT / "docs" / "operations.md", *DEPLOY.glob("compose*.yaml"))]
    lines_joined = re.sub(r" *\\?\n(?:# *)?", " ", "\n".join(texts))
    commands = re.findall(r"((?:\w+=\S+ )*)docker compose((?: --file deploy/\S+)+)", lines_joined)
    return sorted({(tuple(given.split()), tuple(re.findall(r"deploy/(\S+)", files))) for given, files in commands})


def read(compose: list[str], folder: Path, files: tuple[str, ...], **settings: str) -> subprocess.CompletedProcess[str]:
    """What Compose says to these files."""
    command = [*compose, *(word for file in files for word in ("--file", str(folder / file))), "config", "--services"]
    return subprocess.run(command, env=environment(**settings), capture_output=True, text=True)


def test_commands_name_every_file() -> None:
    assert {file for _, files in documented() for file in files} == {path.name for path in DEPLOY.glob("compose*.yaml")}


@pytest.mark.parametrize(("given", "files"), documented(), ids="+".join)
def test_compose_reads_what_commands_name(
    compose: list[str], given: tuple[str, ...], files: tuple[str, ...], tmp_path: Path
) -> None:
    """With the variables before the command alone. An unknown key or a value of another type is an error."""
    variables = {"GRAFANA_PASSWORD": ""} | dict(each.split("=") for each in given)
    ended = read(compose, DEPLOY, files, **variables)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert set(ended.stdout.split()) == {name for file in files for name in services(file)}
    shutil.copy(DEPLOY / "seccomp.json", tmp_path)
    for file in files:
        (tmp_path / file).write_text((DEPLOY / file).read_text().replace("read_only", "read_onyl"))
    refused = read(compose, tmp_path, files, **variables)
    assert refused.returncode != 0
    assert "read_onyl" in refused.stderr


def test_without_a_password_for_grafana_compose_says_what_to_do(compose: list[str]) -> None:
    refused = read(compose, DEPLOY, ("compose.yaml",), GRAFANA_PASSWORD="")
    assert refused.returncode != 0
    assert "set GRAFANA_PASSWORD to the password" in refused.stderr


@pytest.mark.parametrize("file", FILES)
def test_what_it_mounts_are_folders_that_are_there(file: str) -> None:
    """Editors put a new file in the old one's place; a container to which the file was given goes on with the old."""
    mounts = [mount for service in services(file).values() for mount in service.get("volumes", [])]
    sources = [source for source in (mount.partition(":")[0] for mount in mounts) if source.startswith(".")]
    assert sources
    assert [source for source in sources if not (DEPLOY / source).is_dir()] == []


@pytest.mark.parametrize(("file", "name"), OURS)
def test_the_service_is_locked_down_and_has_time_to_drain(file: str, name: str) -> None:
    service = services(file)[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true", "seccomp:./seccomp.json"]
    assert (DEPLOY / "seccomp.json").exists()  # Compose reads it from beside the file
    assert {"cpus", "mem_limit"} <= service.keys()  # there is a worker for each core, and memory for so many
    assert float(service["stop_grace_period"].removesuffix("s")) > Settings.model_fields["grace"].default
    assert (DEPLOY / service["build"]["context"] / "Dockerfile").exists()


@pytest.mark.parametrize("file", FILES)
def test_nothing_is_reached_from_outside(file: str) -> None:
    ports = [port for service in services(file).values() for port in service.get("ports", [])]
    assert ports
    assert [port for port in ports if not port.startswith("127.0.0.1:")] == []


def test_prometheus_looks_for_the_name_that_the_servers_have() -> None:
    """Not by what Docker's DNS finds, where one that is stopped is forgotten, and no alert fires."""
    for file, folder_file, started in (
        ("compose.yaml", "prometheus.yml", "compose.yaml"),
        ("compose.watched.yaml", "replicas.yml", "compose.replicas.yaml"),
    ):
        assert f"--config.file=/etc/prometheus/{folder_file}" in services(file)["prometheus"]["command"]
        (scraped,) = prometheus_settings(folder_file).pop("scrape_configs")
        ours = [name for name, service in services(started).items() if service["image"] == "resnet-serve"]
        assert scraped == {
            "job_name": "resnet-serve",
            "static_configs": [{"targets": [f"{name}:8000" for name in ours]}],
        }


def test_both_ways_to_scrape_are_the_same_but_for_the_targets() -> None:
    """Compose replaces a command as a whole."""
    both = prometheus_settings("prometheus.yml"), prometheus_settings("replicas.yml")
    assert [settings.pop("scrape_configs") for settings in both]
    assert both[0] == both[1]
    commands = [services(file)["prometheus"]["command"][1:] for file in ("compose.yaml", "compose.watched.yaml")]
    assert commands[0] == commands[1]


def prometheus_settings(file: str) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((DEPLOY / "prometheus" / file).read_text())
    return found


def test_grafana_finds_its_dashboard_and_prometheus() -> None:
    provisioning = DEPLOY / "grafana" / "provisioning"
    (source,) = yaml.safe_load((provisioning / "datasources" / "prometheus.yml").read_text())["datasources"]
    (provider,) = yaml.safe_load((provisioning / "dashboards" / "files.yml").read_text())["providers"]
    grafana = services("compose.yaml")["grafana"]
    assert source["url"] == "http://prometheus:9090"
    assert f"./grafana/dashboards:{provider['options']['path']}:ro" in grafana["volumes"]
    home = grafana["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"]
    assert (DEPLOY / "grafana" / "dashboards" / home.rpartition("/")[2]).exists()


def test_haproxy_takes_its_configuration(require: Callable[[str], str]) -> None:
    command = [require("haproxy"), "-c", "-f", str(DEPLOY / "haproxy" / "haproxy.cfg")]
    ended = subprocess.run(command, env=environment(), capture_output=True, text=True)
    assert ended.returncode == 0, ended.stdout + ended.stderr


def test_haproxy_is_configured_as_the_document_says() -> None:
    """Which tests/faults/test_rolling_restart.py runs: the same, but for names and ports."""
    (documented,) = re.findall(r"```haproxy\n(.*?)```", (ROOT / "docs" / "operations.md").read_text(), re.DOTALL)
    deployed = (DEPLOY / "haproxy" / "haproxy.cfg").read_text()
    deployed = deployed[deployed.index("defaults\n") :].replace(" resolvers docker init-addr none", "")
    for name, address in {"bind :8080": "bind 127.0.0.1:8080", "one:8000": "127.0.0.1:8001"}.items():
        deployed = deployed.replace(name, address)
    assert deployed.replace("two:8000", "127.0.0.1:8002") == documented


def test_keys_come_from_a_folder_that_the_server_reads() -> None:
    """Mounted as a folder: a container that has the file alone would not see another in its place."""
    document = yaml.safe_load((DEPLOY / "compose.keys.yaml").read_text())
    assert document["services"].keys() <= services("compose.yaml").keys()
    (mount,) = document["services"]["resnet-serve"]["volumes"]
    source, target, _ = mount.split(":")
    assert document["services"]["resnet-serve"]["environment"] == {f"{ENV_PREFIX}API_KEY_FILE": f"{target}/keys"}
    assert f"/deploy/{source.removeprefix('./')}/" in (ROOT / ".gitignore").read_text().splitlines()
