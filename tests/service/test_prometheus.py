"""A real Prometheus scrapes the running server and knows what was sent."""

import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.service.pictures import png
from tests.service.served import Served, free_port, until

CONFIGURATION = """
global: {{scrape_interval: 200ms, scrape_timeout: 200ms}}
scrape_configs:
  - job_name: resnet-serve
    static_configs: [{{targets: ["{target}"]}}]
"""


@pytest.fixture(scope="module")
def prometheus(
    require: Callable[[str], str], server: Served, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    """Its address."""
    program, folder, address = require("prometheus"), tmp_path_factory.mktemp("prometheus"), f"127.0.0.1:{free_port()}"
    configuration = folder / "prometheus.yml"
    configuration.write_text(CONFIGURATION.format(target="{}:{}".format(*server.address)))
    command = [program, f"--config.file={configuration}", f"--web.listen-address={address}"]
    with (folder / "log").open("w") as log:
        process = subprocess.Popen([*command, f"--storage.tsdb.path={folder / 'data'}"], stdout=log, stderr=log)
    try:
        until(lambda: process.poll() is not None or answers(address), "Prometheus")
        assert process.poll() is None, Path(log.name).read_text()
        yield address
    finally:
        process.terminate()
        process.wait(30)


def answers(address: str) -> bool:
    try:
        return httpx.get(f"http://{address}/-/ready").status_code == 200
    except httpx.TransportError:
        return False


def query(address: str, expression: str) -> list[dict[str, Any]]:
    answer = httpx.get(f"http://{address}/api/v1/query", params={"query": expression}).json()
    assert answer["status"] == "success", answer
    found: list[dict[str, Any]] = answer["data"]["result"]
    return found


def value(address: str, expression: str) -> float | None:
    """The single sample that an expression gives, if it gives any."""
    found = query(address, expression)
    assert len(found) < 2, found
    return float(found[0]["value"][1]) if found else None


def test_prometheus_knows_the_counts_that_were_sent(prometheus: str, server: Served, client: httpx.Client) -> None:
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
    until(lambda: {one: value(prometheus, one) for one in expected} == expected, f"Prometheus to know {expected}")
    images = 'sum(resnet_batch_size_sum{model="plain"})'
    assert value(prometheus, images) == before['resnet_batch_size_sum{model="plain"}'] + 7
    assert value(prometheus, "up") == 1
    assert value(prometheus, "resnet_queue_capacity") == 1024 * len(server.api_processes())


def test_histograms_give_quantiles(prometheus: str, client: httpx.Client) -> None:
    client.post("/predict", content=png())
    stages = 'histogram_quantile(0.5, sum by (le, stage) (resnet_stage_duration_seconds_bucket{model="plain"}))'

    def medians() -> dict[str, float]:
        return {one["metric"]["stage"]: float(one["value"][1]) for one in query(prometheus, stages)}

    found = until(lambda: len(medians()) == 5 and medians(), "five stages")
    assert all(0 < median < 10 for median in found.values()), found


def test_the_type_and_help_of_every_metric_arrive(prometheus: str, server: Served) -> None:
    served = {series.partition("{")[0] for series in server.metrics() if series.startswith("resnet_")}
    told = until(lambda: httpx.get(f"http://{prometheus}/api/v1/metadata").json()["data"], "metadata")
    families = {name for name in told if name.startswith("resnet_")}
    assert all(told[name][0]["help"] and told[name][0]["type"] != "unknown" for name in families)
    suffixes = ("", "_bucket", "_count", "_sum")
    assert served <= {name + suffix for name in families for suffix in suffixes}
