"""The manifests: built by kustomize, valid by the schemas of Kubernetes, and fit for the server that they start."""

import re
import shlex
import shutil
import signal
import subprocess
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from typing import Any

import httpx
import kubernetes_validate
import pytest
import yaml

from service.config.settings import ENV_PREFIX, Settings, fit_together
from tests.documents import ROOT
from tests.prometheus import Prometheus
from tests.service.served import Served, until

OVERLAYS = ("cpu", "gpu")
KINDS = {"Deployment", "Service", "PodDisruptionBudget", "ServiceMonitor", "NetworkPolicy"}
OF_OPERATORS = {"ServiceMonitor"}  # whose schema is not Kubernetes' own

Manifests = dict[str, dict[str, Any]]


@cache
def built(kubectl: str, overlay: str) -> Manifests:
    """What is applied, by kind."""
    command = [kubectl, "kustomize", str(ROOT / "deploy" / "kubernetes" / "overlays" / overlay)]
    text = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return {manifest["kind"]: manifest for manifest in yaml.safe_load_all(text)}


@pytest.fixture(params=OVERLAYS)
def manifests(request: pytest.FixtureRequest, require: Callable[[str], str]) -> Manifests:
    return built(require("kubectl"), request.param)


@pytest.fixture
def pod(manifests: Manifests) -> dict[str, Any]:
    """The specification of a pod."""
    spec: dict[str, Any] = manifests["Deployment"]["spec"]["template"]["spec"]
    return spec


@pytest.fixture
def container(pod: dict[str, Any]) -> dict[str, Any]:
    (container,) = pod["containers"]
    return dict(container)


def test_everything_is_there(manifests: Manifests) -> None:
    assert manifests.keys() >= KINDS
    assert manifests.keys() - KINDS <= {"HorizontalPodAutoscaler"}


def test_manifests_are_valid(manifests: Manifests) -> None:
    for kind in manifests.keys() - OF_OPERATORS:
        kubernetes_validate.validate(manifests[kind], kubernetes_validate.latest_version(), strict=True)


def test_validation_finds_a_misspelt_field(manifests: Manifests) -> None:
    wrong = {**manifests["Service"], "spec": {**manifests["Service"]["spec"], "prots": []}}
    with pytest.raises(kubernetes_validate.ValidationError, match="prots"):
        kubernetes_validate.validate(wrong, kubernetes_validate.latest_version(), strict=True)


def test_selectors_select_the_pods(manifests: Manifests, pod: dict[str, Any]) -> None:
    labels = manifests["Deployment"]["spec"]["template"]["metadata"]["labels"].items()
    selectors = [
        manifests["Deployment"]["spec"]["selector"]["matchLabels"],
        manifests["Service"]["spec"]["selector"],
        manifests["PodDisruptionBudget"]["spec"]["selector"]["matchLabels"],
        manifests["NetworkPolicy"]["spec"]["podSelector"]["matchLabels"],
        *(spread["labelSelector"]["matchLabels"] for spread in pod["topologySpreadConstraints"]),
    ]
    assert all(selector and selector.items() <= labels for selector in selectors)
    monitored = manifests["ServiceMonitor"]["spec"]
    assert monitored["selector"]["matchLabels"].items() <= manifests["Service"]["metadata"]["labels"].items()
    ports = {port["name"] for port in manifests["Service"]["spec"]["ports"]}
    assert {endpoint["port"] for endpoint in monitored["endpoints"]} <= ports


def test_the_environment_is_settings_and_a_drain_fits_the_grace_of_the_pod(
    pod: dict[str, Any], container: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    for variable in container["env"]:
        assert variable["name"].removeprefix(ENV_PREFIX).lower() in Settings.model_fields
        monkeypatch.setenv(variable["name"], variable["value"])
    settings = fit_together(Settings(_cli_parse_args=[]))
    assert 0 < settings.drain_delay < settings.grace < pod["terminationGracePeriodSeconds"]
    probe = container["startupProbe"]
    assert probe["failureThreshold"] * probe["periodSeconds"] >= settings.start_timeout
    (port,) = container["ports"]
    assert port["containerPort"] == settings.port


def test_the_server_sees_no_more_cores_than_it_may_use(container: dict[str, Any]) -> None:
    """Of the whole node it would make processes and threads; a limit of cores bounds all of them."""
    resources = container["resources"]
    assert resources["limits"]["cpu"] == resources["requests"]["cpu"]
    assert {variable["name"] for variable in container["env"]}.isdisjoint({f"{ENV_PREFIX}WORKERS"})


def test_probes_and_metrics_are_routes_of_the_server(
    manifests: Manifests, container: dict[str, Any], busy_server: Served
) -> None:
    paths = {container[f"{probe}Probe"]["httpGet"]["path"] for probe in ("startup", "readiness", "liveness")}
    paths |= {endpoint["path"] for endpoint in manifests["ServiceMonitor"]["spec"]["endpoints"]}
    assert paths == {"/readyz", "/livez", "/metrics"}
    assert {httpx.get(busy_server.url + path).status_code for path in paths} == {200}


def test_pods_keep_the_restricted_standard(pod: dict[str, Any], container: dict[str, Any]) -> None:
    """Kubernetes' Pod Security Standards, level restricted; and nothing is written."""
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert not {"volumes", "hostNetwork", "hostPID", "hostIPC"} & pod.keys()
    assert "hostPort" not in container["ports"][0]


def test_strangers_reach_no_pod_and_pods_reach_nobody(manifests: Manifests, container: dict[str, Any]) -> None:
    """But the port that is served, from places that are named."""
    policy = manifests["NetworkPolicy"]["spec"]
    assert (policy["policyTypes"], policy["egress"]) == (["Ingress", "Egress"], [])
    (rule,) = policy["ingress"]
    assert rule["ports"] == [{"port": container["ports"][0]["name"]}]
    assert rule["from"]
    assert {"podSelector": {}} in rule["from"]
    assert {"namespaceSelector": {}} not in rule["from"]  # which would be everywhere


def test_the_autoscaler_asks_for_a_gauge_that_the_adapter_finds(
    require: Callable[[str], str], prometheus: Prometheus
) -> None:
    """The adapter's query, with a label that is there in the place of the pod's."""
    manifests = built(require("kubectl"), "cpu")
    (metric,) = manifests["HorizontalPodAutoscaler"]["spec"]["metrics"]
    name, target = metric["pods"]["metric"]["name"], metric["pods"]["target"]
    assert (target["type"], target["averageValue"]) == ("AverageValue", "700m")  # of a gauge from 0 to 1
    folder = ROOT / "deploy" / "kubernetes" / "components" / "autoscaling"
    (rule,) = yaml.safe_load((folder / "prometheus-adapter.yaml").read_text())["rules"]["custom"]
    assert rule["seriesQuery"] == f'{name}{{namespace!="",pod!=""}}'
    query = rule["metricsQuery"]
    for template, value in (("GroupBy", "instance"), ("Series", name), ("LabelMatchers", 'job="resnet-serve"')):
        query = query.replace(f"<<.{template}>>", value)
    (found,) = until(lambda: prometheus.query(query), "the gauge")
    assert 0 <= float(found["value"][1]) <= 1


def test_the_autoscaler_alone_says_how_many_replicas(require: Callable[[str], str]) -> None:
    """A number in the Deployment would undo the autoscaler's each time that it is applied."""
    manifests = built(require("kubectl"), "cpu")
    target = manifests["HorizontalPodAutoscaler"]["spec"]["scaleTargetRef"]
    assert "replicas" not in manifests["Deployment"]["spec"]
    assert (target["kind"], target["name"]) == ("Deployment", manifests["Deployment"]["metadata"]["name"])


def pod_with(component: str, kubectl: str, folder: Path) -> dict[str, Any]:
    """The specification of a pod of the overlay `cpu` with a component that it has not by itself."""
    (folder / "deploy").symlink_to(ROOT / "deploy")
    parts = f"resources: [deploy/kubernetes/overlays/cpu]\ncomponents: [deploy/kubernetes/components/{component}]\n"
    (folder / "kustomization.yaml").write_text(
        f"apiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\n{parts}"
    )
    command = [kubectl, "kustomize", "--load-restrictor=LoadRestrictionsNone", str(folder)]
    text = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    (deployment,) = (one for one in yaml.safe_load_all(text) if one["kind"] == "Deployment")
    kubernetes_validate.validate(deployment, kubernetes_validate.latest_version(), strict=True)
    return dict(deployment["spec"]["template"]["spec"])


def test_the_profile_of_system_calls_can_be_ours(require: Callable[[str], str], tmp_path: Path) -> None:
    pod = pod_with("seccomp", require("kubectl"), tmp_path)
    assert pod["securityContext"]["seccompProfile"] == {"type": "Localhost", "localhostProfile": "resnet-serve.json"}
    assert pod["securityContext"]["runAsNonRoot"] is True


def test_keys_come_from_a_secret_that_the_server_reads(require: Callable[[str], str], tmp_path: Path) -> None:
    pod = pod_with("keys", require("kubectl"), tmp_path)
    (container,) = pod["containers"]
    variables = {variable["name"]: variable["value"] for variable in container["env"]}
    (mount,) = container["volumeMounts"]
    assert variables[f"{ENV_PREFIX}API_KEY_FILE"] == f"{mount['mountPath']}/keys"
    assert {"name": mount["name"], "secret": {"secretName": "resnet-serve-keys"}} in pod["volumes"]


def test_what_has_keys_read_again_needs_no_program_that_the_image_lacks(tmp_path: Path) -> None:
    """`kill` is in Debian's procps, which slim images of Python do not have; shells have their own."""
    comment = (ROOT / "deploy" / "kubernetes" / "components" / "keys" / "kustomization.yaml").read_text()
    (command,) = re.findall(r"`kubectl exec POD -- (.*) 1'`", comment)
    (tmp_path / "sh").symlink_to(shutil.which("sh") or "")
    hears = partial(signal.signal, signal.SIGHUP, signal.SIG_DFL)  # also under nohup, whose children do not
    with subprocess.Popen(["sleep", "60"], preexec_fn=hears) as process:
        words = shlex.split(f"{command} {process.pid}'")
        subprocess.run([str(tmp_path / words[0]), *words[1:]], check=True, env={"PATH": str(tmp_path)})
        assert process.wait() == -signal.SIGHUP
