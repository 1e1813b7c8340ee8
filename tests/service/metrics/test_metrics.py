"""Metrics: true counts, told the same by every process, and never falling."""

import multiprocessing
import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path

import httpx
import prometheus_client
import pytest
from prometheus_client.parser import text_string_to_metric_families

from models.artifact.artifact import read_artifact
from service.metrics.families import Family
from service.metrics.metered_model import MeteredModel
from service.metrics.metrics import OUTCOMES, Metrics
from service.metrics.snapshot import MODEL_STATES
from tests.artifacts import make_artifact, value_at_start
from tests.service.pictures import b64, png
from tests.service.served import DEADLINE_S, Served, Servers, until
from tests.service.stock import FAILING, MAX_BODY_BYTES, MAX_IMAGES, SLOW
from tests.service.wire import Wire, post

STAGES = ("read", "decode", "queue", "inference", "respond")
B64 = b64(png())


@contextmanager
def counted(served: Served) -> Iterator[Callable[[str], float]]:
    """By how much a series grew inside the `with`; to be asked after it."""
    before, after = served.metrics(), {}
    yield lambda series: after.get(series, 0.0) - before.get(series, 0.0)
    after |= served.metrics()


def requests_total(outcome: str, model: str = "plain", version: str = "2") -> str:
    return f'resnet_requests_total{{model="{model}",outcome="{outcome}",version="{version}"}}'


def durations(outcome: str, model: str = "plain", what: str = "count") -> str:
    return f'resnet_request_duration_seconds_{what}{{model="{model}",outcome="{outcome}"}}'


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
    assert grew(requests_total("client_error")) == 3 + 1
    assert grew(requests_total("client_error", "", "")) == 1
    assert grew(requests_total("server_error", "faulty", "1")) == 1
    assert grew(http_total(200)) == 6
    assert grew(http_total(200, "PUT", "/models/{model}/predict")) == 1
    assert grew(http_total(415)) == grew(http_total(422)) == grew(http_total(413)) == 1
    assert grew(http_total(404, route="/predictions/{model}")) == 1
    assert grew(http_total(405, "GET")) == 1
    assert grew(http_total(500, route="/models/{model}/predict")) == 1
    assert grew(durations("ok")) == 7
    assert grew(durations("client_error")) == 3 + 1
    assert grew(durations("client_error", "")) == 1
    assert grew(durations("server_error", "faulty")) == 1
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
    total = grew(durations("ok", what="sum")) * 1e3
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
        *(
            f'resnet_request_duration_seconds_bucket{{le="{bound}",model="plain",outcome="expired"}}'
            for bound in ("0.0005", "0.1", "0.15", "0.2", "0.3", "0.4", "0.5", "0.7", "1.0", "60.0", "+Inf")
        ),
        'resnet_stage_duration_seconds_bucket{le="60.0",model="plain",stage="inference"}',
        'resnet_batch_size_count{model="plain"}',
        "resnet_queue_depth",
        "resnet_decode_queue_depth",
        "resnet_decoders_busy",
        "resnet_estimated_wait_seconds",
        "resnet_workers_busy",
        "resnet_inflight_requests",
        "resnet_image_bytes_count",
        'resnet_images_rejected_total{reason="too_large"}',
    ]
    assert {series: metrics.get(series) for series in zero} == dict.fromkeys(zero, 0.0)
    one = ['resnet_worker_up{worker="0"}', 'resnet_worker_up{worker="1"}']
    until(lambda: [served.metrics()[series] for series in one] == [1.0, 1.0], "both workers")
    assert metrics["resnet_queue_capacity"] == 1024 * len(served.api_processes())
    assert metrics['resnet_model_load_seconds{model="plain"}'] > 0
    memory = {series: value for series, value in metrics.items() if series.startswith("resnet_model_memory_bytes{")}
    assert 'resnet_model_memory_bytes{model="plain",version="2"}' in memory
    assert max(memory.values()) > 1 << 20  # the first one brings the engine
    assert metrics["resnet_model_load_failures_total"] == len(served.events("model failed")) > 0
    artifact = read_artifact(repository / "plain" / "2")
    info = f'device="cpu",engine="onnxruntime",model="plain",precision="fp32",sha256="{artifact.sha256}",version="2"'
    assert metrics[f"resnet_model_info{{{info}}}"] == 1
    assert not any(series.startswith("resnet_model_info") and '"wrong"' in series for series in metrics)
    assert any(series.startswith("resnet_build_info{") for series in metrics)


def test_refusals_and_errors_before_the_body_have_their_model(server: Served, client: httpx.Client) -> None:
    predict = "/models/colour/predict"
    with counted(server) as grew:
        codes = [
            client.post(predict, content=bytes(MAX_BODY_BYTES + 1)).status_code,
            client.post(predict, content=png(), headers={"x-request-timeout-ms": "soon"}).status_code,
            client.post(predict, content=png(), params={"top_k": "0"}).status_code,
            client.delete(predict).status_code,
            client.post("/models/wrong/predict", content=png()).status_code,
            client.post("/models/zebra/predict", content=png()).status_code,
        ]
    assert codes == [413, 400, 400, 405, 503, 404]
    assert grew(requests_total("client_error", "colour", "1")) == grew(durations("client_error", "colour")) == 4
    assert grew(requests_total("shed", "wrong", "1")) == grew(durations("shed", "wrong")) == 1
    assert grew(requests_total("client_error", "", "")) == grew(durations("client_error", "")) == 1


def test_refusals_of_a_server_that_loads_is_full_or_waits_for_a_body_have_their_model(
    serve: Servers, tmp_path: Path
) -> None:
    models = tmp_path / "models"
    make_artifact(models, "slow", loops={value_at_start(tmp_path): 1000})
    served = serve("--model-repository", models, "--workers", "1", "--max-batch-size", "1", "--queue-capacity", "1",
                   "--api-processes", "1", "--body-timeout", "0.1")  # fmt: skip
    assert httpx.post(served.url + "/predict", content=png()).json()["reason"] == "loading"
    served.ready()
    with ThreadPoolExecutor(1) as pool, served.paused():
        pool.submit(httpx.post, served.url + "/predict", content=png(), timeout=DEADLINE_S)
        until(lambda: served.metrics()["resnet_inflight_requests"] == 1, "the first request")
        assert httpx.post(served.url + "/predict", content=png()).json()["reason"] == "full"
    with Wire(served.address) as wire:
        wire.send(post(png())[:-1])
        assert wire.answer().status == 408
    metrics = served.metrics()
    ended = {outcome: metrics[requests_total(outcome, "slow", "1")] for outcome in ("shed", "client_error", "ok")}
    assert ended == {"shed": 2, "client_error": 1, "ok": 1}
    assert all(metrics[durations(outcome, "slow")] == count for outcome, count in ended.items())


def test_a_client_that_leaves_has_a_duration(server: Served) -> None:
    with counted(server) as grew, server.paused(), Wire(server.address) as wire:
        wire.send(post(png()))
        until(lambda: server.metrics()["resnet_inflight_requests"] == 1, "the request")
        assert server.metrics()["resnet_estimated_wait_seconds"] > 0
        wire.close()
        until(lambda: server.metrics()["resnet_inflight_requests"] == 0, "its end")
    assert grew(requests_total("cancelled")) == grew(durations("cancelled")) == 1
    assert grew(durations("cancelled", what="sum")) > 0


def test_what_the_server_is_doing_shows(server: Served, client: httpx.Client) -> None:
    metrics = server.metrics()
    states = {series: value for series, value in metrics.items() if series.startswith("resnet_model_state")}
    for model, version, state in [("plain", "2", "ready"), ("wrong", "1", "failed"), ("damaged", "1", "failed")]:
        of_model = [f'{{model="{model}",state="{one}",version="{version}"}}' for one in MODEL_STATES]
        expected = [float(one == state) for one in MODEL_STATES]
        assert [states["resnet_model_state" + labels] for labels in of_model] == expected
    assert metrics["resnet_ready"] == 1
    with ThreadPoolExecutor(1) as pool:
        slow = pool.submit(lambda: [client.post("/models/faulty/predict", content=png(first=SLOW)) for _ in range(20)])
        until(lambda: server.metrics()["resnet_workers_busy"] == 1 or slow.done(), "the worker to be busy")
        assert not slow.done()
    until(lambda: server.metrics()["resnet_workers_busy"] == 0, "the worker to be idle")


def test_promtool_finds_nothing_to_say(require: Callable[[str], str], server: Served) -> None:
    text = httpx.get(server.url + "/metrics").content
    lint = subprocess.run([require("promtool"), "check", "metrics"], input=text, capture_output=True, check=False)
    assert (lint.returncode, lint.stdout, lint.stderr) == (0, b"", b"")
    assert text.count(b"# HELP resnet_") > 30  # of nothing it has nothing to say either


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
        metrics.estimated_wait.set(0.5 - row / 4)
    metrics.attach(metrics.supervisor_row)
    metrics.worker_up.set(1.0, "0")
    sums = exposed(metrics)
    ok = frozenset({"model": "m", "version": "1", "outcome": "ok"}.items())
    assert sums["resnet_requests_total", ok] == 2
    assert metrics.requests_by_outcome() == dict.fromkeys(OUTCOMES, 0) | {"ok": 2}
    assert sums["resnet_queue_depth", frozenset()] == 6
    assert sums["resnet_estimated_wait_seconds", frozenset()] == 0.5
    assert sums["resnet_worker_up", frozenset({("worker", "0")})] == 1


def test_a_successor_keeps_the_counts_and_forgets_the_gauges() -> None:
    metrics = make_metrics()
    metrics.attach(0)
    metrics.shed.inc("full")
    metrics.inflight.set(7.0)
    metrics.last_inference.set(9.0, "m")
    metrics.attach(0)
    sums = exposed(metrics)
    assert sums["resnet_requests_shed_total", frozenset({("reason", "full")})] == 1
    assert sums["resnet_inflight_requests", frozenset()] == 0
    assert sums["resnet_last_inference_timestamp_seconds", frozenset({("model", "m")})] == 9


def begin_second(metrics: Metrics, row: int) -> None:
    metrics.begin_models([MeteredModel("n", "1", ("x",)), MeteredModel("m", "2", ("b", "c"))])
    metrics.attach(row)


def count_second(metrics: Metrics) -> None:
    begin_second(metrics, 0)
    for name, version, label in (("n", "1", "x"), ("m", "2", "c"), ("m", "2", "b")):
        metrics.requests.inc(name, version, "ok")
        metrics.predictions.inc(name, label)
        metrics.batch_size.observe(4, name)


def test_models_that_come_later_are_counted_by_every_process_and_counts_go_on() -> None:
    metrics = make_metrics()
    metrics.attach(1)
    metrics.requests.inc("m", "1", "ok")
    metrics.predictions.inc("m", "b", by=5)
    before = exposed(metrics)
    process = multiprocessing.get_context("fork").Process(target=count_second, args=(metrics,))
    process.start()
    process.join()
    assert process.exitcode == 0
    metrics.render()
    begin_second(metrics, 1)
    sums = exposed(metrics)
    grown = {key: value for key, value in sums.items() if value > before.get(key, 0)}
    totals = {
        (key[0], *sorted(dict(key[1]).values())): value for key, value in grown.items() if "_bucket" not in key[0]
    }
    assert totals == {
        ("resnet_requests_total", "1", "n", "ok"): 1,
        ("resnet_requests_total", "2", "m", "ok"): 2,
        ("resnet_predictions_total", "n", "x"): 1,
        ("resnet_predictions_total", "c", "m"): 1,
        ("resnet_predictions_total", "b", "m"): 6,
        ("resnet_batch_size_count", "n"): 1,
        ("resnet_batch_size_sum", "n"): 4,
        ("resnet_batch_size_count", "m"): 2,
        ("resnet_batch_size_sum", "m"): 8,
    }
    assert all(sums[key] >= value for key, value in before.items())
    lines = metrics.render().decode().splitlines()
    assert 'resnet_requests_total{model="m",outcome="ok",version="2"} 2.0' in lines


def test_there_is_room_for_many_models_and_it_has_an_end() -> None:
    metrics = make_metrics()
    versions = [MeteredModel("m", str(version), ("a", "b")) for version in range(1000)]
    assert metrics.has_room_for(versions)
    metrics.begin_models(versions)
    assert metrics.has_room_for(versions)
    assert not metrics.has_room_for([MeteredModel(f"n{i}", "1", ("a",)) for i in range(1000)])


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
