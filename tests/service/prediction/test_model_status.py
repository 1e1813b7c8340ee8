"""What is known of the models, as workers come and go."""

from dataclasses import replace
from pathlib import Path

import pytest

from service.catalog.repository import Repository
from service.catalog.served_model import ModelLookup
from service.errors import NotFound
from service.ipc.reports import ModelReport
from service.metrics.snapshot import MODEL_STATES, Snapshot
from service.prediction.model_status import ModelStatus

COLOUR, FAULTY, PLAIN, WRONG = range(4)  # places in the catalog, by name; `damaged` cannot be read


def ready(model: int) -> ModelReport:
    return ModelReport(model, "ready", engine="e", device="d", precision="p", max_batch_size=8)


def failed(model: int) -> ModelReport:
    return ModelReport(model, "failed", reason="why")


@pytest.fixture
def models(repository: Path) -> ModelLookup:
    catalog = Repository(repository).read("plain")
    assert [artifact.name for artifact in catalog.artifacts] == ["colour", "faulty", "plain", "wrong"]
    return ModelLookup(catalog, max_pixels=1000)


@pytest.fixture
def status(repository: Path, models: ModelLookup) -> ModelStatus:
    return ModelStatus(Repository(repository).read("plain"), models.by_index)


def test_a_model_is_ready_while_any_worker_has_it(status: ModelStatus) -> None:
    """And the server while the default model is, until it drains."""
    steps = []

    def note() -> None:
        steps.append(([status.state(model) for model in (COLOUR, PLAIN)], status.ready))

    note()
    status.worker_up(0, [ready(COLOUR), failed(FAULTY), ready(PLAIN)])
    note()
    status.worker_up(1, [ready(COLOUR), failed(FAULTY), ready(PLAIN)])
    status.worker_down(0)
    note()
    status.worker_down(1)
    note()
    status.worker_up(0, [ready(COLOUR), failed(FAULTY), ready(PLAIN)])
    status.draining = True
    note()
    assert steps == [
        (["loading", "loading"], False),
        (["ready", "ready"], True),
        (["ready", "ready"], True),
        (["loading", "loading"], False),
        (["ready", "ready"], False),
    ]


def test_a_model_has_failed_only_if_no_worker_has_it(status: ModelStatus, models: ModelLookup) -> None:
    """What its requests are told then is the newest reason; it outlasts the worker."""
    failures = []

    def note() -> None:
        failures.append((status.state(FAULTY), models.by_index[FAULTY].failure))

    status.worker_up(0, [failed(FAULTY)])
    note()
    status.worker_up(1, [ready(FAULTY)])
    note()
    status.worker_down(1)
    note()
    status.worker_up(0, [failed(FAULTY)])
    status.worker_down(0)
    note()
    assert failures == [("failed", "why"), ("ready", None), ("loading", None), ("failed", "why")]


def test_models_are_described_with_what_the_workers_told(status: ModelStatus) -> None:
    assert [document["state"] for document in status.describe_all()] == [*["loading"] * 4, "failed"]
    status.worker_up(0, [ready(COLOUR), failed(FAULTY), ready(PLAIN), failed(WRONG)])
    described = {document["name"]: document for document in status.describe_all()}
    assert {name: document["state"] for name, document in described.items()} == {
        "colour": "ready",
        "faulty": "failed",
        "plain": "ready",
        "wrong": "failed",
        "damaged": "failed",
    }
    assert (described["colour"]["engine"], described["colour"]["max_batch_size"]) == ("e", 8)
    assert described["faulty"]["reason"] == "why"
    assert "engine" not in described["faulty"]
    assert "SHA-256" in described["damaged"]["reason"]
    assert [name for name, document in described.items() if document.get("default")] == ["plain"]
    assert {name: status.describe_named(name) for name in described} == described
    with pytest.raises(NotFound, match="zebra"):
        status.describe_named("zebra")


def test_a_served_version_whose_files_cannot_be_read_any_more_is_one_series_of_each_state(status: ModelStatus) -> None:
    """It serves, and a start would not find it."""
    status.worker_up(0, [ready(COLOUR), ready(FAULTY), ready(PLAIN), ready(WRONG)])
    status.catalog = replace(status.catalog, failed={**status.catalog.failed, ("plain", "2"): "why"})
    states, *_ = [
        family for family in Snapshot(True, 0, status.snapshot()).collect() if family.name == "resnet_model_state"
    ]
    of_plain = [sample for sample in states.samples if sample.labels["model"] == "plain"]
    assert {sample.labels["state"]: sample.value for sample in of_plain} == {
        "ready": 1,
        "loading": 0,
        "failed": 1,
        "unloaded": 0,
    }
    assert len(of_plain) == len(MODEL_STATES)
