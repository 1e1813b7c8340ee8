"""Settings: flags over environment over defaults, and nothing misspelt passes."""

import os
from pathlib import Path

import httpx
import pytest
from pydantic import ValidationError
from pydantic_settings import CliApp

from service.settings import SettingError, Settings, check_environment
from tests.service.served import Servers


def parse(monkeypatch: pytest.MonkeyPatch, *flags: str, **variables: str) -> Settings:
    for name in [name for name in os.environ if name.startswith("RESNET_SERVE_")]:
        monkeypatch.delenv(name)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    return CliApp.run(Settings, cli_args=list(flags))


def test_a_flag_beats_a_variable_beats_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    assert parse(monkeypatch).max_batch_size == 0  # whatever pays
    assert parse(monkeypatch, RESNET_SERVE_MAX_BATCH_SIZE="7").max_batch_size == 7
    assert parse(monkeypatch, "--max-batch-size", "9", RESNET_SERVE_MAX_BATCH_SIZE="7").max_batch_size == 9


@pytest.mark.parametrize(
    ("flag", "value"),
    [
        ("--port", "70000"),
        ("--port", "http"),
        ("--workers", "-1"),
        ("--queue-capacity", "0"),
        ("--request-timeout", "0"),
        ("--engine", "abacus"),
        ("--log-level", "loud"),
        ("--max-batch-size", "100000"),
    ],
)
def test_a_value_that_does_not_fit_is_refused(monkeypatch: pytest.MonkeyPatch, flag: str, value: str) -> None:
    name = flag.removeprefix("--").replace("-", "_")
    with pytest.raises(ValidationError, match=name):
        parse(monkeypatch, **{f"RESNET_SERVE_{name.upper()}": value})


@pytest.mark.parametrize("name", ["RESNET_SERVE_SERVICE", "resnet_serve_typo", "RESNET_SERVE_", "RESNET_SERVE_PORTS"])
def test_only_what_kubernetes_injects_is_passed_over(name: str) -> None:
    with pytest.raises(SettingError, match="unknown"):
        check_environment({name: "tcp://10.0.0.1:8000"})


# As a Service called resnet-serve with a port called http makes them (kubernetes.io, "Environment variables").
LINKS = {
    "RESNET_SERVE_SERVICE_HOST": "10.96.0.11",
    "RESNET_SERVE_SERVICE_PORT": "8000",
    "RESNET_SERVE_SERVICE_PORT_HTTP": "8000",
    "RESNET_SERVE_PORT": "tcp://10.96.0.11:8000",
    "RESNET_SERVE_PORT_8000_TCP": "tcp://10.96.0.11:8000",
    "RESNET_SERVE_PORT_8000_TCP_PROTO": "tcp",
    "RESNET_SERVE_PORT_8000_TCP_PORT": "8000",
    "RESNET_SERVE_PORT_8000_TCP_ADDR": "10.96.0.11",
}


def test_kubernetes_service_links_are_told_from_settings() -> None:
    variables = LINKS | {"RESNET_SERVE_WORKERS": "2", "PATH": "/bin"}
    assert check_environment(variables) == list(LINKS)
    assert variables == {"RESNET_SERVE_WORKERS": "2", "PATH": "/bin"}
    variables = {"RESNET_SERVE_PORT": "9000"}
    assert check_environment(variables) == []
    assert variables == {"RESNET_SERVE_PORT": "9000"}


def test_a_server_takes_its_settings_from_the_environment_and_passes_over_service_links(
    serve: Servers, repository: Path
) -> None:
    settings = {"MODEL_REPOSITORY": str(repository), "DEFAULT_MODEL": "colour", "WORKERS": "1"}
    settings |= {"API_PROCESSES": "1", "QUEUE_CAPACITY": "77"}
    served = serve(**LINKS, **{f"RESNET_SERVE_{name}": value for name, value in settings.items()})
    models = httpx.get(served.ready().url + "/models").json()["models"]
    assert [model["name"] for model in models if model.get("default")] == ["colour"]
    assert served.metrics()["resnet_queue_capacity"] == 77
    (warning,) = [line for line in served.lines if "Kubernetes" in line]
    assert all(name in warning for name in LINKS)
