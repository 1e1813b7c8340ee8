"""Metrics: true counts, told the same by every process, and never falling."""

import base64
import multiprocessing
import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import httpx
import prometheus_client
import pytest
from prometheus_client.parser import text_string_to_metric_families

from models.artifact.artifact import read_artifact
from service.metrics.families import Family
from service.metrics.metrics import (
    MeteredModel,
    Metrics,
)
from tests.service.pictures import png
from tests.service.served import Served, Servers, until
from tests.service.stock import FAILING, MAX_IMAGES

STAGES = ("read", "decode", "queue", "inference", "respond")
B64 = base64.b64encode(png()).decode()


@contextmanager
def counted(served: Served) -> Iterator[Callable[[str], float]]:
    """By how much a series grew inside the `with`; to be asked after it."""
    before, after = served.metrics(), {}
    yield lambda series: after.get(series, 0.0) - before.get(series, 0.0)
    after |= served.metrics()


def requests_total(outcome: str, model: str = "plain", version: str = "2") -> str:
    return f'resnet_requests_total{{model="{model}",outcome="{outcome}",version="{version}"}}'


def http_total(code: int, method: str = "POST", route: str = "/predict") -> str:
    return f'resnet_http_requests_total{{code="{code}",method="{method}",route="{route}"}}'


def test_what_was_sent_is_what_is_counted(server: Served, client: httpx.Client) -> None:
    with counted(server) as grew:
        tops = [client.post("/predict", content=png(seed)).json()["predictions"][0] for seed in range(5)]
        client.put("/models/plain/predict", content=png())
        client.post("/predict", content=b"text")
        client.post("/predict", content=png()[:-40])
        client.post("/predict", json={"images": [B64] * (MAX_IMAGES + 1)})
        client.post("/predictions/zebra", content=png())
        client.post("/models/faulty/predict", content=png(first=FAILING))
        client.post("/predict", json={"images": [B64, "AAAA", B64]})
        client.get("/predict")
    assert grew(requests_total("ok")) == 5 + 1 + 1
    assert grew(requests_total("client_error")) == 3
    assert grew(requests_total("client_error", "", "")) == 1 + 1
    assert grew(requests_total("server_error", "faulty", "1")) == 1
    assert grew(http_total(200)) == 6
    assert grew(http_total(200, "PUT", "/models/{model}/predict")) == 1
    assert grew(http_total(415)) == grew(http_total(422)) == grew(http_total(413)) == 1
    assert grew(http_total(404, route="/predictions/{model}")) == 1
    assert grew(http_total(405, "GET")) == 1
    assert grew(http_total(500, route="/models/{model}/predict")) == 1
    assert grew('resnet_request_duration_seconds_count{model="plain"}') == 7 + 3
    for stage in STAGES:
        assert grew(f'resnet_stage_duration_seconds_count{{model="plain",stage="{stage}"}}') == 7
    assert grew('resnet_batch_size_sum{model="plain"}') == 5 + 1 + 2
    assert grew("resnet_image_bytes_count") == 5 + 1 + 2 + 1 + 3
    assert grew('resnet_images_rejected_total{reason="unsupported_media_type"}') == 1 + 1
    assert grew('resnet_images_rejected_total{reason="undecodable_image"}') == 1
    assert grew('resnet_prediction_confidence_count{model="plain"}') == 5 + 1 + 2
    assert grew('resnet_prediction_confidence_sum{model="plain"}') == pytest.approx(
        sum(top["probability"] for top in tops) + 3 * tops[0]["probability"]
    )
    for label in {top["label"] for top in tops}:
        expected = sum(top["label"] == label for top in tops) + 3 * (tops[0]["label"] == label)
        assert grew(f'resnet_predictions_total{{label="{label}",model="plain"}}') == expected


def test_routes_beside_prediction_are_counted_by_their_pattern(server: Served, client: httpx.Client) -> None:
    with counted(server) as grew:
        client.get("/models/plain")
        client.get("/models/zebra")
        client.head("/livez")
        client.post("/livez")
        client.get("/nowhere/at/all")
        client.request("BREW", "/models")
    assert grew(http_total(200, "GET", "/models/{model}")) == 1
    assert grew(http_total(404, "GET", "/models/{model}")) == 1
    assert grew(http_total(200, "HEAD", "/livez")) == 1
    assert grew(http_total(405, "POST", "/livez")) == 1
    assert grew(http_total(404, "GET", "")) == 1
    assert grew(http_total(200, "GET", "/metrics")) == 1


def test_durations_are_those_that_the_answers_tell(server: Served, client: httpx.Client) -> None:
    with counted(server) as grew:
        told = [client.post("/predict", content=png()).json()["timings_ms"] for _ in range(5)]
    for stage in STAGES[:-1]:  # the answer cannot know when its own last byte is written
        series = f'resnet_stage_duration_seconds_sum{{model="plain",stage="{stage}"}}'
        assert grew(series) * 1e3 == pytest.approx(sum(timings[stage] for timings in told), abs=0.01)
    total = grew('resnet_request_duration_seconds_sum{model="plain"}') * 1e3
    assert sum(timings["total"] for timings in told) <= total


def test_every_metric_is_there_from_the_start(serve: Servers, repository: Path) -> None:
    served = serve("--model-repository", repository, "--default-model", "plain", "--workers", "2").ready()
    metrics = served.metrics()
    zero = [
        *(
            requests_total(outcome)
            for outcome in ("ok", "client_error", "shed", "expired", "cancelled", "server_error")
        ),
        *(f'resnet_requests_shed_total{{reason="{why}"}}' for why in ("full", "draining", "loading", "worker_lost")),
        *(f'resnet_worker_restarts_total{{reason="{why}"}}' for why in ("exit", "hang", "oom")),
        *(f'resnet_stage_duration_seconds_count{{model="plain",stage="{stage}"}}' for stage in STAGES),
        'resnet_stage_duration_seconds_bucket{le="5e-05",model="plain",stage="queue"}',
        'resnet_request_duration_seconds_bucket{le="0.0005",model="plain"}',
        'resnet_batch_size_count{model="plain"}',
        "resnet_queue_depth",
        "resnet_inflight_requests",
        "resnet_image_bytes_count",
        'resnet_images_rejected_total{reason="too_large"}',
    ]
    assert {series: metrics.get(series) for series in zero} == dict.fromkeys(zero, 0.0)
    one = ['resnet_worker_up{worker="0"}', 'resnet_worker_up{worker="1"}']
    until(lambda: [served.metrics()[series] for series in one] == [1.0, 1.0], "both workers")
    assert metrics["resnet_queue_capacity"] == 1024 * len(served.api_processes())
    assert metrics['resnet_model_load_seconds{model="plain"}'] > 0
    artifact = read_artifact(repository / "plain" / "2")
    info = f'device="cpu",engine="onnxruntime",model="plain",precision="fp32",sha256="{artifact.sha256}",version="2"'
    assert metrics[f"resnet_model_info{{{info}}}"] == 1
    assert not any(series.startswith("resnet_model_info") and '"wrong"' in series for series in metrics)
    assert any(series.startswith("resnet_build_info{") for series in metrics)


def test_process_metrics_are_of_the_supervisor(server: Served) -> None:
    ticks = int(Path(f"/proc/{server.process.pid}/stat").read_text().rpartition(")")[2].split()[19])
    boot = next(line for line in Path("/proc/stat").read_text().splitlines() if line.startswith("btime"))
    started = int(boot.split()[1]) + ticks / os.sysconf("SC_CLK_TCK")
    assert server.metrics()["process_start_time_seconds"] == pytest.approx(started, abs=1)


def test_promtool_finds_nothing_to_say(require: Callable[[str], str], server: Served) -> None:
    text = httpx.get(server.url + "/metrics").content
    lint = subprocess.run([require("promtool"), "check", "metrics"], input=text, capture_output=True, check=False)
    assert (lint.returncode, lint.stdout, lint.stderr) == (0, b"", b"")


# Several API processes


@pytest.fixture(scope="module")
def pair(serve_module: Servers, repository: Path) -> Served:
    """A server with two API processes."""
    flags = ("--model-repository", repository, "--default-model", "plain", "--workers", "1", "--api-processes", "2")
    return serve_module(*flags, "--queue-capacity", "10").ready()


def connections_of(pid: int) -> int:
    """How many TCP connections a process holds."""
    links = {str(fd.readlink()) for fd in Path(f"/proc/{pid}/fd").iterdir()}
    established = {
        f"socket:[{fields[9]}]"
        for line in Path(f"/proc/{pid}/net/tcp").read_text().splitlines()[1:]
        if (fields := line.split())[3] == "01"
    }
    return len(established & links)


def test_sums_are_right_whichever_process_is_asked_and_survive_its_death(pair: Served) -> None:
    one, other = until(lambda: len(found := pair.api_processes()) == 2 and found, "two API processes")
    with ExitStack() as stack:
        clients: list[httpx.Client] = []
        while not (connections_of(one) and connections_of(other)):
            clients.append(stack.enter_context(httpx.Client(base_url=pair.url)))
            assert clients[-1].get("/readyz").status_code == 200
        for client in clients:
            assert client.post("/predict", content=png()).status_code == 200
        line = f"\n{requests_total('ok')} {len(clients)}.0\n"
        for client in clients:
            until(lambda client=client: line in client.get("/metrics").text, "the sum from each process")
        assert pair.metrics()["resnet_queue_capacity"] == 20

        os.kill(one, signal.SIGKILL)
        until(lambda: one not in pair.processes(), "its death")
        counts = [pair.metrics()[requests_total("ok")] for _ in range(5)]
    replaced = until(lambda: len(found := pair.api_processes()) == 2 and one not in found and found, "its successor")
    until(lambda: pair.metrics()["resnet_queue_capacity"] == 20, "the successor to count")
    assert other in replaced
    assert {*counts, pair.metrics()[requests_total("ok")]} == {len(clients)}
    assert httpx.post(pair.url + "/predict", content=png()).status_code == 200
    assert pair.metrics()[requests_total("ok")] == len(clients) + 1


# Without a server


def make_metrics(api_processes: int = 2) -> Metrics:
    return Metrics([MeteredModel("m", "1", ("a", "b"))], ["/predict"], 1, api_processes)


def exposed(metrics: Metrics) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    registry = prometheus_client.CollectorRegistry()
    registry.register(metrics)
    families = text_string_to_metric_families(prometheus_client.generate_latest(registry).decode())
    return {(one.name, frozenset(one.labels.items())): one.value for family in families for one in family.samples}


def test_rows_are_summed() -> None:
    metrics = make_metrics()
    for row in range(2):
        metrics.attach(row)
        metrics.requests.inc("m", "1", "ok")
        metrics.queue_depth.set(3.0)
    metrics.attach(metrics.supervisor_row)
    metrics.worker_up.set(1.0, "0")
    sums = exposed(metrics)
    ok = frozenset({"model": "m", "version": "1", "outcome": "ok"}.items())
    assert sums["resnet_requests_total", ok] == 2
    assert sums["resnet_queue_depth", frozenset()] == 6
    assert sums["resnet_worker_up", frozenset({("worker", "0")})] == 1


def test_a_successor_keeps_the_counts_and_forgets_the_gauges() -> None:
    metrics = make_metrics()
    metrics.attach(0)
    metrics.shed.inc("full")
    metrics.inflight.set(7.0)
    metrics.attach(0)
    sums = exposed(metrics)
    assert sums["resnet_requests_shed_total", frozenset({("reason", "full")})] == 1
    assert sums["resnet_inflight_requests", frozenset()] == 0


def count_many(metrics: Metrics, row: int, times: int) -> None:
    metrics.attach(row)
    for _ in range(times):
        metrics.requests.inc("m", "1", "ok")


def test_processes_that_count_at_the_same_time_lose_nothing() -> None:
    metrics, times = make_metrics(), 20_000
    context = multiprocessing.get_context("fork")
    processes = [context.Process(target=count_many, args=(metrics, row, times)) for row in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    ok = frozenset({"model": "m", "version": "1", "outcome": "ok"}.items())
    assert exposed(metrics)["resnet_requests_total", ok] == 2 * times


def test_unknown_methods_and_codes_share_one_series() -> None:
    metrics = make_metrics()
    metrics.attach(0)
    metrics.count_http("/predict", "BREW", 418)
    other = frozenset({"route": "/predict", "method": "other", "code": "other"}.items())
    assert exposed(metrics)["resnet_http_requests_total", other] == 1


def test_families_do_not_share_places() -> None:
    metrics = make_metrics()
    families = [family for family in vars(metrics).values() if isinstance(family, Family)]
    metrics.attach(0)
    metrics.requests.inc("m", "1", "ok")
    assert len(families) > 10
    counted = {key: value for key, value in exposed(metrics).items() if value and not key[0].endswith("_info")}
    assert list(counted.values()) == [1.0]
