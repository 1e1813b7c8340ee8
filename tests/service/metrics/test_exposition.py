"""The text of the metrics: as prometheus_client would have it, whatever was counted."""

import numpy as np
import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.parser import text_string_to_metric_families

from service.metrics.metered_model import MeteredModel
from service.metrics.metrics import Metrics

LABELS = ("plain", 'with "quotes"', "back\\slash", "new\nline", "white space", "ünï\u2028# TYPE x y", "{a=b}")


def make_metrics() -> Metrics:
    models = [MeteredModel("one", "1", LABELS), MeteredModel("two", "7", LABELS[:2])]
    return Metrics(models, ["/predict", "/models"], 2, 1)


def theirs(metrics: Metrics) -> str:
    registry = CollectorRegistry()
    registry.register(metrics)
    return generate_latest(registry).decode()


def parsed(text: str) -> list[tuple[str, str, str, list[object]]]:
    families = text_string_to_metric_families(text)
    return [(family.name, family.type, family.documentation, list(family.samples)) for family in families]


@pytest.mark.parametrize("share", [0.0, 0.1, 1.0])
def test_it_is_what_prometheus_client_renders_scrape_after_scrape(share: float) -> None:
    metrics, random = make_metrics(), np.random.default_rng(0)
    metrics.attach(0)
    row = np.frombuffer(metrics.row)
    for _ in range(3):
        row += random.uniform(0, 1e7, len(row)) * (random.random(len(row)) < share)
        ours = metrics.render().decode()
        assert parsed(ours) == parsed(theirs(metrics))
        assert [line.rpartition(" ")[0] for line in ours.split("\n")] == [
            line.rpartition(" ")[0] for line in theirs(metrics).split("\n")
        ]


def test_other_families_follow() -> None:
    metrics = make_metrics()
    other = GaugeMetricFamily("resnet_other", "Another.", 3.0)
    text = metrics.render([other]).decode()
    assert text.endswith("\n# HELP resnet_other Another.\n# TYPE resnet_other gauge\nresnet_other 3.0\n")
    assert text.startswith(metrics.render().decode())


def test_a_scrape_collects_no_family_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """They were made into text once; a scrape fills in values."""
    metrics = make_metrics()
    metrics.attach(0)
    for family in {type(family) for family in metrics._families}:
        monkeypatch.setattr(family, "collect", lambda *_: pytest.fail("collected"))
    metrics.shed.inc("full")
    assert '\nresnet_requests_shed_total{reason="full"} 1.0\n' in metrics.render().decode()
    metrics.shed.inc("full")
    assert '\nresnet_requests_shed_total{reason="full"} 2.0\n' in metrics.render().decode()


def test_classes_that_were_never_answered_take_no_line() -> None:
    metrics = make_metrics()
    metrics.attach(0)
    metrics.predictions.inc("one", "plain")
    lines = [line for line in metrics.render().decode().splitlines() if line.startswith("resnet_predictions_total{")]
    assert lines == ['resnet_predictions_total{label="plain",model="one"} 1.0']
