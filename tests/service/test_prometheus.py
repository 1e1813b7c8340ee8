"""A real Prometheus scrapes the running server and knows what was sent."""

from collections.abc import Callable, Iterator

import httpx
import pytest

from tests.prometheus import Prometheus, scraping
from tests.service.pictures import png
from tests.service.served import Served, until


@pytest.fixture(scope="module")
def prometheus(
    require: Callable[[str], str], server: Served, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Prometheus]:
    with scraping(require("prometheus"), server, tmp_path_factory.mktemp("prometheus")) as prometheus:
        yield prometheus


def test_prometheus_knows_the_counts_that_were_sent(
    prometheus: Prometheus, server: Served, client: httpx.Client
) -> None:
    ok = 'resnet_requests_total{model="plain",version="2",outcome="ok"}'
    refused = 'resnet_http_requests_total{route="/predict",method="POST",code="415"}'
    before = server.metrics()
    for seed in range(7):
        assert client.post("/predict", content=png(seed)).status_code == 200
    for _ in range(3):
        assert client.post("/predict", content=b"text").status_code == 415
    expected = {
        ok: before['resnet_requests_total{model="plain",outcome="ok",version="2"}'] + 7,
        refused: before.get('resnet_http_requests_total{code="415",method="POST",route="/predict"}', 0) + 3,
    }
    until(lambda: {one: prometheus.value(one) for one in expected} == expected, f"Prometheus to know {expected}")
    at_once = {
        'sum(resnet_batch_size_sum{model="plain"})': before['resnet_batch_size_sum{model="plain"}'] + 7,
        "up": 1,
        "resnet_queue_capacity": 1024 * len(server.api_processes()),
    }
    until(lambda: {one: prometheus.value(one) for one in at_once} == at_once, f"{at_once}, unless a scrape is late")


def test_histograms_give_quantiles(prometheus: Prometheus, client: httpx.Client) -> None:
    client.post("/predict", content=png())
    stages = 'histogram_quantile(0.5, sum by (le, stage) (resnet_stage_duration_seconds_bucket{model="plain"}))'

    def medians() -> dict[str, float]:
        return {one["metric"]["stage"]: float(one["value"][1]) for one in prometheus.query(stages)}

    found = until(lambda: len(medians()) == 5 and medians(), "five stages")
    assert all(0 < median < 10 for median in found.values()), found


def test_the_type_and_help_of_every_metric_arrive(prometheus: Prometheus, server: Served) -> None:
    served = {series.partition("{")[0] for series in server.metrics() if series.startswith("resnet_")}
    told = until(lambda: httpx.get(f"{prometheus.url}/api/v1/metadata").json()["data"], "metadata")
    families = {name for name in told if name.startswith("resnet_")}
    assert all(told[name][0]["help"] and told[name][0]["type"] != "unknown" for name in families)
    suffixes = ("", "_total", "_bucket", "_count", "_sum")  # Prometheus asks for OpenMetrics, which names families so
    assert served <= {name + suffix for name in families for suffix in suffixes}
