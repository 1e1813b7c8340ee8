"""Exemplars: as a reader of OpenMetrics finds them, with the newest request of each bucket."""

import multiprocessing

import pytest
from prometheus_client.core import Metric
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from service.metrics import exemplars as module
from service.metrics.exemplars import Exemplars
from service.metrics.families import Histogram
from service.metrics.metered_model import MeteredModel
from service.metrics.metrics import Metrics


@pytest.fixture
def metrics(monkeypatch: pytest.MonkeyPatch) -> Metrics:
    """Of two API processes; each look at the clock is a second later."""
    seconds = iter(range(100, 200))
    monkeypatch.setattr(module.time, "time", lambda: float(next(seconds)))
    return Metrics([MeteredModel("plain", "1", ("a", "b"))], ["/predict"], 1, 2)


def families(metrics: Metrics) -> dict[str, Metric]:
    text = metrics.render(openmetrics=True).decode()
    return {family.name: family for family in text_string_to_metric_families(text)}


def found(metrics: Metrics) -> dict[tuple[str, str], tuple[str, str, float, float]]:
    """Trace, span, value and time of each, by outcome and bound."""
    return {
        (sample.labels["outcome"], sample.labels["le"]): (
            sample.exemplar.labels["trace_id"],
            sample.exemplar.labels["span_id"],
            sample.exemplar.value,
            float(sample.exemplar.timestamp),
        )
        for sample in families(metrics)["resnet_request_duration_seconds"].samples
        if sample.exemplar
    }


def test_each_bucket_has_the_newest_of_all_processes(metrics: Metrics) -> None:
    for process, value, trace in ((0, 0.0015, 1), (1, 0.0016, 2), (0, 0.3, 3), (1, 0.25, 4), (0, 0.26, 5)):
        metrics.attach(process)
        metrics.exemplars.note(value, trace, 16 + trace, "plain", "ok")
    metrics.exemplars.note(100.0, 6, 22, "plain", "expired")
    metrics.exemplars.note(0.0004, 7, 23, "", "client_error")
    assert found(metrics) == {
        ("ok", "0.002"): (f"{2:032x}", f"{18:016x}", 0.0016, 101.0),
        ("ok", "0.3"): (f"{5:032x}", f"{21:016x}", 0.26, 104.0),
        ("expired", "+Inf"): (f"{6:032x}", f"{22:016x}", 100.0, 105.0),
        ("client_error", "0.0005"): (f"{7:032x}", f"{23:016x}", 0.0004, 106.0),
    }


def test_one_that_is_being_written_is_left_out(metrics: Metrics) -> None:
    metrics.attach(0)
    metrics.exemplars.note(0.3, 1, 2, "plain", "ok")
    metrics.exemplars._records["written_s"][metrics.exemplars._records["time_s"] > 0] = 99.0
    assert found(metrics) == {}


def test_one_that_is_being_written_hides_none_of_another_process(metrics: Metrics) -> None:
    for process in (0, 1):
        metrics.attach(process)
        metrics.exemplars.note(0.3, 1 + process, 2, "plain", "ok")
    newest = metrics.exemplars._records["time_s"] == 101.0
    metrics.exemplars._records["written_s"][newest] = 99.0
    assert found(metrics) == {("ok", "0.3"): (f"{1:032x}", f"{2:016x}", 0.3, 100.0)}


def write_many(exemplars: Exemplars, rows: int) -> None:
    """One exemplar in each row, with a number that stands in all of its fields."""
    for row in range(rows):
        number = 1 + row % 1000
        exemplars.attach(row)
        exemplars.note(number / 1000, number << 64 | number, number, "plain")


@pytest.mark.parametrize("_", range(10))
def test_what_is_written_while_they_are_looked_at_is_found_whole_or_not_at_all(_: int) -> None:
    rows = 10_000  # so many that several are written during each look
    histogram = Histogram("seconds", "", (1.0,), ("model",))
    histogram.lay_out([("plain",)], 0)
    exemplars = Exemplars(histogram, rows, histogram.width)
    writer = multiprocessing.get_context("fork").Process(target=write_many, args=(exemplars, rows), daemon=True)
    writer.start()
    while writer.is_alive():
        for exemplar in exemplars.newest().values():
            number = round(exemplar.value * 1000)
            assert exemplar.trace_id == (number << 64 | number).to_bytes(16)
            assert exemplar.span_id == number.to_bytes(8)
    writer.join()
    assert exemplars.newest()[0].value == 1.0


def test_openmetrics_has_the_same_samples(metrics: Metrics) -> None:
    metrics.attach(0)
    metrics.requests.inc("plain", "1", "ok")
    metrics.request_duration.observe(0.3, "plain", "ok")
    metrics.exemplars.note(0.3, 1, 2, "plain", "ok")
    plain = [line for line in metrics.render().decode().splitlines() if not line.startswith("#")]
    open_ = [line for line in metrics.render(openmetrics=True).decode().splitlines() if not line.startswith("#")]
    assert [line.partition(" # ")[0] for line in open_] == plain
    assert families(metrics)["resnet_requests"].type == "counter"
