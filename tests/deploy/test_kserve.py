"""What KServe is given: built by kustomize, valid by KServe's own schemas, and fit for the server that it starts."""

import json
import subprocess
from collections.abc import Callable
from copy import deepcopy
from typing import Any

import httpx
import kubernetes_validate
import pytest
import yaml
from jsonschema import Draft202012Validator

from service.config.settings import ENV_PREFIX, Settings, fit_together
from tests.deploy.kserve_schemas import MANIFESTS, SCHEMAS
from tests.service.served import Served

Manifest = dict[str, Any]


@pytest.fixture(scope="module")
def manifests(require: Callable[[str], str]) -> dict[str, Manifest]:
    """What is applied, by kind."""
    text = subprocess.run([require("kubectl"), "kustomize", MANIFESTS], check=True, capture_output=True, text=True)
    return {manifest["kind"]: manifest for manifest in yaml.safe_load_all(text.stdout)}


@pytest.fixture(scope="module")
def container(manifests: dict[str, Manifest]) -> Manifest:
    """The server's, which KServe knows by its name."""
    (container,) = manifests["ServingRuntime"]["spec"]["containers"]
    assert container["name"] == "kserve-container"
    return dict(container)


def problems(manifest: Manifest) -> list[str]:
    schema = json.loads(SCHEMAS.read_text())[manifest["kind"]]
    return [error.json_path for error in Draft202012Validator(schema).iter_errors(manifest["spec"])]


def test_manifests_are_valid_by_kserve_s_schemas(manifests: dict[str, Manifest]) -> None:
    assert {kind: problems(manifest) for kind, manifest in manifests.items()} == {
        "ServingRuntime": [],
        "InferenceService": [],
    }
    wrong = deepcopy(manifests["InferenceService"])
    wrong["spec"]["predictor"]["model"] = {"modelFormat": {}, "storageURI": "s3://x"}
    assert set(problems(wrong)) == {"$.predictor.model", "$.predictor.model.modelFormat"}


def test_the_container_is_one_that_kubernetes_takes(container: Manifest) -> None:
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "x"}, "spec": {"containers": [container]}}
    kubernetes_validate.validate(pod, kubernetes_validate.latest_version(), strict=True)
    assert container["resources"]["limits"]["cpu"] == container["resources"]["requests"]["cpu"]
    context = container["securityContext"]
    assert (context["runAsNonRoot"], context["readOnlyRootFilesystem"]) == (True, True)
    assert (context["allowPrivilegeEscalation"], context["capabilities"]) == (False, {"drop": ["ALL"]})


def test_the_service_asks_for_a_model_that_the_runtime_serves(manifests: dict[str, Manifest]) -> None:
    runtime, service = manifests["ServingRuntime"], manifests["InferenceService"]
    model = service["spec"]["predictor"]["model"]
    assert model["runtime"] == runtime["metadata"]["name"]
    assert model["protocolVersion"] in runtime["spec"]["protocolVersions"]
    formats = [{key: one[key] for key in ("name", "version")} for one in runtime["spec"]["supportedModelFormats"]]
    assert model["modelFormat"] in formats


def test_the_environment_is_settings_and_a_drain_fits_the_grace_of_the_pod(
    manifests: dict[str, Manifest], container: Manifest, monkeypatch: pytest.MonkeyPatch
) -> None:
    for variable in container["env"]:
        assert variable["name"].removeprefix(ENV_PREFIX).lower() in Settings.model_fields
        monkeypatch.setenv(variable["name"], variable["value"])
    settings = fit_together(Settings(_cli_parse_args=[]))
    grace = manifests["InferenceService"]["spec"]["predictor"]["terminationGracePeriodSeconds"]
    assert 0 < settings.drain_delay < settings.grace < grace
    assert str(settings.model_repository) == "/mnt/models"  # where KServe's storage initializer puts it
    assert [port["containerPort"] for port in container["ports"]] == [settings.port]
    probe = container["startupProbe"]
    assert probe["failureThreshold"] * probe["periodSeconds"] >= settings.start_timeout


def test_probes_and_metrics_are_routes_of_the_server(
    manifests: dict[str, Manifest], container: Manifest, busy_server: Served
) -> None:
    probes = [container[f"{probe}Probe"]["httpGet"] for probe in ("startup", "readiness", "liveness")]
    annotations = manifests["ServingRuntime"]["spec"]["annotations"]
    ports = {probe["port"] for probe in probes} | {int(annotations["prometheus.kserve.io/port"])}
    assert ports == {port["containerPort"] for port in container["ports"]}
    paths = {probe["path"] for probe in probes} | {annotations["prometheus.kserve.io/path"]}
    assert paths == {"/v2/health/ready", "/v2/health/live", "/metrics"}
    assert {httpx.get(busy_server.url + path).status_code for path in paths} == {200}
