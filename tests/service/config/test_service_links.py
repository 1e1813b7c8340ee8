"""Variables that Kubernetes sets are passed over, and no other that is no setting."""

from pathlib import Path

import httpx
import pytest

from service.config.service_links import drop_service_links
from service.config.settings import SettingError
from tests.service.served import Servers


@pytest.mark.parametrize(
    "name",
    [
        "RESNET_SERVE_SERVICE",
        "resnet_serve_typo",
        "RESNET_SERVE_",
        "RESNET_SERVE_PORTS",
        "RESNET_SERVE_QUEUE_CAPACITIES",
        "RESNET_SERVE_API_PORT_TCP",
    ],
)
def test_only_what_kubernetes_injects_is_passed_over(name: str) -> None:
    with pytest.raises(SettingError, match="unknown"):
        drop_service_links({name: "tcp://10.0.0.1:8000"})


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


@pytest.mark.parametrize("service", ["", "CANARY_", "V2_MAX_"], ids=["its own", "another", "one like a setting"])
def test_kubernetes_service_links_are_told_from_settings(service: str) -> None:
    links = {name.replace("RESNET_SERVE_", f"RESNET_SERVE_{service}"): value for name, value in LINKS.items()}
    variables = links | {"RESNET_SERVE_WORKERS": "2", "PATH": "/bin"}
    assert drop_service_links(variables) == list(links)
    assert variables == {"RESNET_SERVE_WORKERS": "2", "PATH": "/bin"}
    variables = {"RESNET_SERVE_PORT": "9000"}
    assert drop_service_links(variables) == []
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
