"""What an API process knows of the models in the workers: for readiness and the model routes."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from service.catalog.catalog import Catalog
from service.catalog.served_model import ServedModel
from service.ipc.reports import CandidateReport, ModelReport
from service.metrics.snapshot import ModelSnapshot

_DIRECTORIES = re.compile(r"(?<![^\s'\"(\[=:])/(?:[^\s/:]+/)+")  # of absolute paths


class ModelStatus:
    """Which workers are up, and what each reported of its models."""

    def __init__(self, catalog: Catalog, models: Mapping[int, ServedModel], *, on_demand: bool = False) -> None:
        """`on_demand`: a model that no worker has is loaded when it is asked for."""
        self.draining, self._on_demand = False, on_demand
        self.follow(catalog, models)

    def follow(self, catalog: Catalog, models: Mapping[int, ServedModel]) -> None:
        """These are served from now on; no worker that was up has any of them."""
        self.known: dict[int, ModelReport] = {}
        """The newest report of each model, also of workers that are down; a failure only if no worker has the model."""
        self.catalog, self._models = catalog, models
        self._reports: dict[int, dict[int, ModelReport]] = {}  # by worker, then by model; of workers that are up

    def worker_up(self, worker: int, reports: Sequence[ModelReport]) -> None:
        """A worker is ready, with these models loaded or failed."""
        self._reports[worker] = {report.model: report for report in reports}
        for report in reports:
            if report.state == "ready" or self.state(report.model) != "ready":
                self.known[report.model] = report
        self._update_failures()

    def worker_down(self, worker: int) -> None:
        """A worker is gone."""
        self._reports.pop(worker, None)
        self._update_failures()

    def model_moved(self, worker: int, report: ModelReport) -> None:
        """A worker has loaded a model, has failed to, if only by its death, or does not keep it."""
        if reports := self._reports.get(worker):
            reports[report.model] = report
            if report.state == "unloaded":
                del reports[report.model]
        if report.state == "ready" or self.state(report.model) != "ready":
            self.known[report.model] = report

    def release(self, model: int) -> None:
        """No worker is to have this model any more."""
        for reports in self._reports.values():
            reports.pop(model, None)

    def ready_in(self, worker: int) -> frozenset[int]:
        """The models that a worker has, none if it is not up."""
        reports = self._reports.get(worker, {}).values()
        return frozenset(report.model for report in reports if report.state == "ready")

    def _update_failures(self) -> None:
        if self._on_demand:  # it may be tried again
            return
        for model in self._models.values():
            report = self.known.get(model.index)
            failed = report is not None and self.state(model.index) == "failed"
            model.failure = without_directories(report.reason) if report and failed else None

    @property
    def any_worker(self) -> bool:
        """Whether a worker is up."""
        return bool(self._reports)

    @property
    def ready(self) -> bool:
        """Whether the default model can take work now."""
        return not self.draining and self.state(self.catalog.default) == "ready"

    def state(self, model: int) -> str:
        """`ready`, `failed`, `loading` or `unloaded`."""
        states = {reports[model].state for reports in self._reports.values() if model in reports}
        if "ready" in states:
            return "ready"
        if model in self.known and self.known[model].state == "failed":
            return "failed"
        return "unloaded" if self._on_demand and self._reports else "loading"

    def can_be_asked(self, model: int) -> bool:
        """Whether a worker has the model, or loads it when it is asked for."""
        return self.state(model) in ("ready", "unloaded")

    @property
    def workers(self) -> list[int]:
        """The numbers of those that are up."""
        return list(self._reports)

    def snapshot(self) -> list[ModelSnapshot]:
        """Every model for the metrics: those that are served, and those that could not be read."""
        failed = self.catalog.failed
        served = [self._snapshot(index) for index in self._models]
        known = {(model.name, model.version) for model in served}
        return [model._replace(is_broken=(model.name, model.version) in failed) for model in served] + [
            ModelSnapshot(name, version, "failed") for name, version in failed if (name, version) not in known
        ]

    def _snapshot(self, model: int) -> ModelSnapshot:
        artifact, report = self.catalog[model], self.known.get(model)
        snapshot = ModelSnapshot(artifact.name, str(artifact.version), self.state(model), sha256=artifact.sha256)
        if report is None:
            return snapshot
        sha256 = artifact.run_in(report.precision).sha256
        return snapshot._replace(
            sha256=sha256,
            engine=report.engine,
            device=report.device,
            precision=report.precision,
            memory_bytes=report.memory_bytes,
        )

    def served(self) -> list[tuple[str, str]]:
        """Name and version of every model that can be asked."""
        models = [model for model in self._models.values() if self.can_be_asked(model.index)]
        return [(model.name, model.version) for model in models]

    def describe_all(self) -> list[dict[str, Any]]:
        """Every model: those that are served, and those that could not be read."""
        return [self._describe(index) for index in self._models] + self._describe_unreadable()

    def describe_named(self, name: str) -> dict[str, Any]:
        """One model by name, in the version that is served, or else why none is; NotFound."""
        unreadable = [document for document in self._describe_unreadable() if document["name"] == name]
        if unreadable and name not in [model.name for model in self._models.values()]:
            return unreadable[0]
        return self._describe(self.catalog.find(name, None))

    def _describe(self, model: int) -> dict[str, Any]:
        """What a client may want to know of one model."""
        artifact = self.catalog[model]
        metadata, report = artifact.metadata, self.known.get(model)
        served = artifact.run_in(report.precision) if report else artifact
        height, width, channels = artifact.input_shape
        document: dict[str, Any] = {
            "name": artifact.name,
            "version": str(artifact.version),
            "state": self.state(model),
            "default": model == self.catalog.default,
            "architecture": metadata.architecture,
            "sha256": served.sha256,
            "input": {"height": height, "width": width, "channels": channels, "dtype": "uint8"},
            "labels": list(artifact.labels),
            "metrics": served.metadata.metrics,
        }
        if model == self.catalog.shadow:
            document["shadow"] = True
        if report:
            if report.state == "failed":
                return document | {"reason": without_directories(report.reason)}
            document |= {"engine": report.engine, "device": report.device, "precision": report.precision}
            document |= {"memory_bytes": report.memory_bytes, "max_batch_size": report.max_batch_size}
            if report.candidates:
                document["why"] = report.why
                document["candidates"] = [_describe_candidate(each) for each in report.candidates]
            document["batch_latency_ms"] = {str(size): round(ms, 3) for size, ms in report.batch_latency_ms}
        return document

    def _describe_unreadable(self) -> list[dict[str, Any]]:
        return [
            {"name": name, "version": version, "state": "failed", "reason": without_directories(reason)}
            for (name, version), reason in self.catalog.failed.items()
        ]


def _describe_candidate(report: CandidateReport) -> dict[str, Any]:
    """One way to run a model that was tried: its speed, or why it may not be used."""
    if report.refused:
        return {"candidate": report.candidate, "refused": without_directories(report.refused)}
    if not report.images_per_second:  # the only one that may be used is not timed
        return {"candidate": report.candidate}
    return {"candidate": report.candidate, "images_per_second": round(report.images_per_second, 1)}


def without_directories(reason: str) -> str:
    """What a worker says of a failure, for clients: engines name the files of their libraries."""
    return _DIRECTORIES.sub("", reason)
