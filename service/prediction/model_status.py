"""What an API process knows of the models in the workers: for readiness and the model routes."""

import re
from collections.abc import Iterable
from typing import Any

from service.ipc.reports import ModelReport
from service.prediction.served_model import ServedModel
from service.repository import Catalog

_DIRECTORIES = re.compile(r"(?<![^\s'\"(\[=:])/(?:[^\s/:]+/)+")  # of absolute paths


class ModelStatus:
    """Which workers are up, and what each reported of its models."""

    def __init__(self, catalog: Catalog, models: list[ServedModel]) -> None:
        self.draining = False
        self.known: dict[int, ModelReport] = {}
        """The newest report of each model, also of workers that are down."""
        self._catalog, self._models = catalog, models
        self._reports: dict[int, dict[int, ModelReport]] = {}  # by worker, then by model; of workers that are up

    def worker_up(self, worker: int, reports: Iterable[ModelReport]) -> None:
        """A worker is ready, with these models loaded or failed."""
        self._reports[worker] = {report.model: report for report in reports}
        self.known.update(self._reports[worker])
        self._update_failures()

    def worker_down(self, worker: int) -> None:
        """A worker is gone."""
        self._reports.pop(worker, None)
        self._update_failures()

    def _update_failures(self) -> None:
        for model in self._models:
            report = self.known.get(model.index)
            failed = report is not None and self.state(model.index) == "failed"
            model.failure = _without_directories(report.reason) if report and failed else None

    @property
    def ready(self) -> bool:
        """Whether the default model can take work now."""
        return not self.draining and self.state(self._catalog.default) == "ready"

    def state(self, model: int) -> str:
        """`ready`, `failed` or `loading`."""
        states = {reports[model].state for reports in self._reports.values()}
        if "ready" in states:
            return "ready"
        if model in self.known and self.known[model].state == "failed":
            return "failed"
        return "loading"

    def describe_all(self) -> list[dict[str, Any]]:
        """Every model: those that are served, and those that could not be read."""
        return [self._describe(index) for index in range(len(self._models))] + self._describe_unreadable()

    def describe_named(self, name: str) -> dict[str, Any]:
        """One model by name, also one that could not be read; NotFound."""
        unreadable = (document for document in self._describe_unreadable() if document["name"] == name)
        return next(unreadable, None) or self._describe(self._catalog.find(name, None))

    def _describe(self, model: int) -> dict[str, Any]:
        """What a client may want to know of one model."""
        artifact = self._catalog.artifacts[model]
        metadata = artifact.metadata
        height, width, channels = artifact.input_shape
        document: dict[str, Any] = {
            "name": artifact.name,
            "version": str(artifact.version),
            "state": self.state(model),
            "default": model == self._catalog.default,
            "architecture": metadata.architecture,
            "sha256": artifact.sha256,
            "input": {"height": height, "width": width, "channels": channels, "dtype": "uint8"},
            "labels": list(artifact.labels),
            "metrics": metadata.metrics,
        }
        if report := self.known.get(model):
            if report.state == "failed":
                return document | {"reason": _without_directories(report.reason)}
            document |= {"engine": report.engine, "device": report.device, "precision": report.precision}
            document["max_batch_size"] = report.max_batch_size
            document["batch_latency_ms"] = {str(size): round(ms, 3) for size, ms in report.batch_latency_ms}
        return document

    def _describe_unreadable(self) -> list[dict[str, Any]]:
        return [
            {"name": name, "version": str(version), "state": "failed", "reason": error.reason}
            for (name, version), error in self._catalog.failed.items()
        ]


def _without_directories(reason: str) -> str:
    """What a worker says of a failure, for clients: engines name the files of their libraries."""
    return _DIRECTORIES.sub("", reason)
