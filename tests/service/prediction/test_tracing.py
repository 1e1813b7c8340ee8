"""Traces: what a real server exports to a real receiver of OTLP."""

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from service.metrics.metered_model import MeteredModel
from service.metrics.metrics import Metrics
from service.metrics.stages import STAGES
from service.parsing.head import Head, Target
from service.prediction.response import begin_response
from service.prediction.tracing import Tracing
from service.routes.routes import ROUTES
from tests.otlp import Receiver, receiving, values
from tests.prometheus import scraping
from tests.service.pictures import png
from tests.service.served import DEADLINE_S, Served, Servers, until

TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


@pytest.fixture(scope="module")
def receiver() -> Iterator[Receiver]:
    with receiving() as receiver:
        yield receiver


@pytest.fixture(scope="module")
def served(receiver: Receiver, repository: Path) -> Iterator[Served]:
    """One that exports what there is ten times a second."""
    variables = {
        "OTEL_EXPORTER_OTLP_ENDPOINT": receiver.url,
        "OTEL_BSP_SCHEDULE_DELAY": "100",
        "OTEL_RESOURCE_ATTRIBUTES": "deployment.environment.name=test",
    }
    with Served(*flags(repository), **variables) as served:
        yield served.ready()


def flags(repository: Path) -> list[str]:
    model = ["--model-repository", str(repository), "--default-model", "plain", "--workers", "1"]
    return [*model, "--tracing", "--access-log", "all"]


def ask(served: Served, request_id: str, body: bytes | None = None, **headers: str) -> httpx.Response:
    url, content = f"{served.url}/predict", png() if body is None else body
    return httpx.post(url, content=content, headers={"X-Request-ID": request_id, **headers}, timeout=DEADLINE_S)


def test_a_request_is_a_span_of_the_clients_trace_with_its_stages_below(served: Served, receiver: Receiver) -> None:
    answer = ask(served, "traced", traceparent=f"00-{TRACE}-{PARENT}-01", tracestate="vendor=one,other=two")
    timings_ms = answer.json()["timings_ms"]
    span = receiver.wait_for("traced")
    assert (span.trace_id.hex(), span.parent_span_id.hex()) == (TRACE, PARENT)
    assert (span.trace_state, span.kind, span.name) == ("vendor=one,other=two", Span.SPAN_KIND_SERVER, "POST /predict")
    assert (
        values(span.attributes).items()
        >= {
            "http.request.method": "POST",
            "http.route": "/predict",
            "http.response.status_code": 200,
            "client.address": "127.0.0.1",
            "resnet.model": "plain",
            "resnet.outcome": "ok",
            "resnet.images": 1,
            "resnet.image_bytes": len(png()),
            "resnet.batch_size": 1,
        }.items()
    )
    stages = receiver.children(span)
    assert [stage.name for stage in stages] == list(STAGES)
    assert {stage.trace_id for stage in stages} == {span.trace_id}
    assert [stage.start_time_unix_nano for stage in stages] == [
        span.start_time_unix_nano,
        *(stage.end_time_unix_nano for stage in stages[:-1]),
    ]
    assert stages[-1].end_time_unix_nano == span.end_time_unix_nano
    for stage in stages[:-1]:  # what the answer could know: of the last one it told the time before the writing
        assert (stage.end_time_unix_nano - stage.start_time_unix_nano) / 1e6 == pytest.approx(
            timings_ms[stage.name], abs=0.001
        )
    assert receiver.resource["service.name"] == "resnet-serve"
    assert receiver.resource["deployment.environment.name"] == "test"


def test_a_request_without_a_trace_begins_one(served: Served, receiver: Receiver) -> None:
    ask(served, "first")
    ask(served, "second")
    spans = [receiver.wait_for(name) for name in ("first", "second")]
    assert [span.parent_span_id for span in spans] == [b"", b""]
    assert spans[0].trace_id != spans[1].trace_id


@pytest.mark.parametrize(
    ("name", "body", "status", "stages"),
    [("bad image", b"text", 415, ["read", "decode"]), ("no model", None, 404, [])],
)
def test_a_refusal_tells_why_and_what_it_passed(
    name: str, body: bytes | None, status: int, stages: list[str], served: Served, receiver: Receiver
) -> None:
    path = "/predict" if status == 415 else "/models/none/predict"
    name = name.replace(" ", "-")
    headers = {"X-Request-ID": name}
    answer = httpx.post(served.url + path, content=body or png(), headers=headers, timeout=DEADLINE_S)
    assert answer.status_code == status
    span = receiver.wait_for(name)
    attributes = values(span.attributes)
    assert attributes["http.response.status_code"] == status
    assert (attributes["error.type"], attributes["resnet.error.detail"]) == (
        answer.json()["code"],
        answer.json()["detail"],
    )
    assert span.status.code == Status.STATUS_CODE_UNSET  # the client's fault is no error of a server's span
    assert [stage.name for stage in receiver.children(span)] == stages


def test_a_request_that_the_server_failed_is_an_error(served: Served, receiver: Receiver) -> None:
    with served.paused():
        answer = ask(served, "late", **{"X-Request-Timeout-Ms": "20"})
    assert answer.status_code == 504
    span = receiver.wait_for("late")
    assert span.status.code == Status.STATUS_CODE_ERROR
    assert values(span.attributes)["resnet.outcome"] == "expired"


def test_what_the_client_does_not_sample_is_not_exported(served: Served, receiver: Receiver) -> None:
    ask(served, "unsampled", traceparent=f"00-{TRACE}-{PARENT}-00")
    ask(served, "sampled", traceparent=f"00-{TRACE}-{PARENT}-01")
    receiver.wait_for("sampled")  # the spans of a process are exported in their order
    assert "unsampled" not in receiver.roots()


def test_exemplars_of_the_latency_lead_to_the_trace(
    served: Served, receiver: Receiver, require: Callable[[str], str], tmp_path: Path
) -> None:
    ask(served, "newest")
    newest = receiver.wait_for("newest")
    text = httpx.get(served.url + "/metrics", headers={"Accept": "application/openmetrics-text"}).text
    series = r'resnet_request_duration_seconds_bucket\{le="[^"]+",model="plain",outcome="ok"\} \S+'
    found = re.findall(series + r' # \{span_id="(\w+)",trace_id="(\w+)"\}', text)
    assert (newest.span_id.hex(), newest.trace_id.hex()) in found
    with scraping(require("prometheus"), served, tmp_path, flags=["--enable-feature=exemplar-storage"]) as prometheus:

        def stored() -> set[str]:
            query = {"query": "resnet_request_duration_seconds_bucket", "start": "0", "end": "9999999999"}
            data: list[dict[str, Any]] = httpx.get(f"{prometheus.url}/api/v1/query_exemplars", params=query).json()[
                "data"
            ]
            return {exemplar["labels"]["trace_id"] for series in data for exemplar in series["exemplars"]}

        until(lambda: newest.trace_id.hex() in stored(), "the exemplar in Prometheus")


def test_the_access_log_names_the_trace(served: Served, receiver: Receiver) -> None:
    """One that was begun here, too."""
    ask(served, "begun")
    ask(served, "continued", traceparent=f"00-{TRACE}-{PARENT}-01")
    traces = {name: receiver.wait_for(name).trace_id.hex() for name in ("begun", "continued")}
    assert {name: served.wait_for_event("request", request_id=name)["trace_id"] for name in traces} == traces
    assert traces["continued"] == TRACE


@pytest.mark.parametrize(("sampler", "exported"), [("always_on", True), ("always_off", False)])
def test_the_variables_choose_the_sampler_and_the_end_exports_what_waits(
    sampler: str, exported: bool, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_TRACES_SAMPLER", sampler)
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", f"{receiver.url}/v1/traces")
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "3600000")
    metrics = Metrics([MeteredModel("plain", "1", ("a", "b"))], ROUTES, 1, 1)
    metrics.attach(0)
    tracing = Tracing(metrics.exemplars)
    traceparent = f"00-{TRACE}-{PARENT}-0{int(not exported)}".encode()  # these samplers do not ask the client
    head = Head("POST", Target("/predict"), b"", {b"traceparent": traceparent, b"x-request-id": sampler.encode()})
    response = begin_response(head, 1)
    response.model, response.version, response.timestamps.written_ns = "plain", "1", 2
    tracing.note(response, head, ())
    tracing.close(DEADLINE_S)
    assert (sampler in receiver.roots()) is exported


def test_a_receiver_that_does_not_answer_holds_up_no_request_and_no_end(repository: Path) -> None:
    variables = {"OTEL_BSP_SCHEDULE_DELAY": "1", "OTEL_BSP_MAX_QUEUE_SIZE": "8", "OTEL_BSP_MAX_EXPORT_BATCH_SIZE": "4"}
    with receiving() as receiver:
        receiver.answers.clear()
        with Served(
            *flags(repository), "--grace", "6", OTEL_EXPORTER_OTLP_ENDPOINT=receiver.url, **variables
        ) as served:
            served.ready()
            assert {ask(served, f"{n}").status_code for n in range(50)} == {200}
            assert receiver.asked.wait(DEADLINE_S)
            assert {ask(served, f"{n}").status_code for n in range(50)} == {200}
            assert served.stop() == 0
            assert served.events("stopped")[0]["requests_lost"] == 0


@pytest.mark.parametrize("variable", ["OTEL_EXPORTER_OTLP_PROTOCOL", "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL"])
def test_another_protocol_is_refused_at_start(variable: str, serve: Servers) -> None:
    served = serve("--tracing", **{variable: "grpc"})
    assert served.wait() == 2
    assert f"exports by http/protobuf, but {variable} is grpc" in served.log
