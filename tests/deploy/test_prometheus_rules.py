"""The recording rules and alerts: promtool's unit tests, a real Prometheus with a real server, and their document."""

import re
import subprocess
from collections.abc import Callable
from typing import Any

import httpx
import yaml

from tests.documents import ROOT
from tests.prometheus import Prometheus
from tests.service.served import DEADLINE_S, Served, until

FOLDER = ROOT / "deploy" / "prometheus"
UNIT_TESTS = ROOT / "tests" / "deploy" / "alerts.yml"


def rules(file: str) -> list[dict[str, Any]]:
    """Every rule of a file."""
    return [rule for group in yaml.safe_load((FOLDER / file).read_text())["groups"] for rule in group["rules"]]


def alert_names() -> set[str]:
    return {rule["alert"] for rule in rules("alerts.yml")}


def promtool(require: Callable[[str], str], *arguments: object) -> None:
    """Run promtool; it must find nothing wrong."""
    ended = subprocess.run([require("promtool"), *map(str, arguments)], capture_output=True, text=True)
    assert ended.returncode == 0, ended.stdout + ended.stderr


def test_alerts_fire_when_they_should(require: Callable[[str], str]) -> None:
    promtool(require, "test", "rules", UNIT_TESTS)


def test_prometheus_takes_the_configuration(require: Callable[[str], str]) -> None:
    for file in ("prometheus.yml", "replicas.yml"):
        promtool(require, "check", "config", FOLDER / file)
    promtool(require, "check", "rules", "--lint=all", "--lint-fatal", FOLDER / "recording.yml", FOLDER / "alerts.yml")


def test_every_alert_has_a_case_in_which_it_fires_and_one_in_which_it_does_not() -> None:
    cases = [case for test in yaml.safe_load(UNIT_TESTS.read_text())["tests"] for case in test["alert_rule_test"]]
    assert {case["alertname"] for case in cases if case["exp_alerts"]} == alert_names()
    assert {case["alertname"] for case in cases if not case["exp_alerts"]} == alert_names()


def test_every_alert_is_explained_in_the_document() -> None:
    document = (ROOT / "docs" / "operations.md").read_text()
    assert set(re.findall(r"^\| `(ResnetServe\w+)` \|", document, re.MULTILINE)) == alert_names()


def test_recorded_series_have_data_of_a_real_server(prometheus: Prometheus) -> None:
    names = [rule["record"] for rule in rules("recording.yml")]
    assert len(names) > 10

    def missing() -> list[str]:
        return [name for name in names if not prometheus.query(name)]

    until(lambda: not missing(), "every recorded series")


def test_metrics_of_alerts_are_the_servers(busy_server: Served) -> None:
    """A name that no server exposes would never fire."""
    expressions = " ".join(rule["expr"] for file in ("recording.yml", "alerts.yml") for rule in rules(file))
    text = httpx.get(f"{busy_server.url}/metrics", timeout=DEADLINE_S).text
    exposed = set(re.findall(r"^(?:# HELP )?(\w+)", text, re.MULTILINE))
    assert set(re.findall(r"(?<![\w:])resnet_\w+(?![\w:])", expressions)) <= exposed


def test_no_alert_is_on_for_a_server_that_is_well(prometheus: Prometheus) -> None:
    """Not even pending, once each was evaluated with data."""
    until(lambda: prometheus.query("job:resnet_request_failures:ratio_rate3d"), "the last recorded series")

    def evaluated() -> list[dict[str, Any]]:
        groups = httpx.get(f"{prometheus.url}/api/v1/rules?type=alert", timeout=DEADLINE_S).json()["data"]["groups"]
        return [rule for group in groups for rule in group["rules"] if rule["health"] == "ok"]

    inactive = dict.fromkeys(alert_names(), "inactive")  # a scrape may have been late
    until(lambda: {rule["name"]: rule["state"] for rule in evaluated()} == inactive, "every alert to be inactive")
