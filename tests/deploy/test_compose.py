"""The compose files by the specification, and against the image and the load balancer that they start."""

import re
import subprocess
from collections.abc import Callable
from typing import Any

import pytest
import yaml
from compose_spec import PyCompose

from service.settings import ENV_PREFIX, Settings
from tests.documents import ROOT
from tests.service.served import environment

DEPLOY = ROOT / "deploy"
FILES = ("compose.yaml", "compose.replicas.yaml")
OURS = [("compose.yaml", "resnet-serve"), ("compose.replicas.yaml", "one"), ("compose.replicas.yaml", "two")]


def services(file: str) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = yaml.safe_load((DEPLOY / file).read_text())["services"]
    return found


@pytest.mark.parametrize("file", FILES)
def test_it_is_a_compose_file(file: str) -> None:
    """An unknown key or a value of another type is an error of the parser."""
    text = (DEPLOY / file).read_text()
    assert sorted(PyCompose.from_yaml(text).service_names()) == sorted(services(file))
    with pytest.raises(ValueError, match="read_onyl"):
        PyCompose.from_yaml(text.replace("read_only", "read_onyl"))


@pytest.mark.parametrize("file", FILES)
def test_files_that_it_mounts_are_there(file: str) -> None:
    mounts = [mount for service in services(file).values() for mount in service.get("volumes", [])]
    sources = [source for source in (mount.partition(":")[0] for mount in mounts) if source.startswith(".")]
    assert sources
    assert [source for source in sources if not (DEPLOY / source).exists()] == []


@pytest.mark.parametrize(("file", "name"), OURS)
def test_the_service_is_locked_down_and_has_time_to_drain(file: str, name: str) -> None:
    service = services(file)[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true", "seccomp:./seccomp.json"]
    assert (DEPLOY / "seccomp.json").exists()  # Compose reads it from beside the file
    assert float(service["stop_grace_period"].removesuffix("s")) > Settings.model_fields["grace"].default
    assert (DEPLOY / service["build"]["context"] / "Dockerfile").exists()


@pytest.mark.parametrize("file", FILES)
def test_nothing_is_reached_from_outside(file: str) -> None:
    ports = [port for service in services(file).values() for port in service.get("ports", [])]
    assert ports
    assert [port for port in ports if not port.startswith("127.0.0.1:")] == []


def test_prometheus_looks_for_the_name_that_the_servers_have() -> None:
    scraped = yaml.safe_load((DEPLOY / "prometheus" / "prometheus.yml").read_text())["scrape_configs"]
    assert [discovery["names"] for config in scraped for discovery in config["dns_sd_configs"]] == [["resnet-serve"]]
    assert "resnet-serve" in services("compose.yaml")
    assert services("compose.replicas.yaml")["one"]["networks"]["default"]["aliases"] == ["resnet-serve"]


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


def test_keys_come_from_a_secret_that_the_server_reads() -> None:
    text = (DEPLOY / "compose.keys.yaml").read_text()
    document = yaml.safe_load(text)
    assert document["services"].keys() <= services("compose.yaml").keys()
    (secret,) = document["services"]["resnet-serve"]["secrets"]
    assert document["services"]["resnet-serve"]["environment"] == {
        f"{ENV_PREFIX}API_KEY_FILE": f"/run/secrets/{secret}"
    }
    assert secret in document["secrets"]
