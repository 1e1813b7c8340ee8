"""What an API process knows of the workers: told by the supervisor, asked by readiness and the model routes."""

from dataclasses import dataclass, field
from typing import Any

from service.errors import Unavailable
from service.ipc.reports import ModelReport
from service.repository import Catalog


@dataclass(eq=False, slots=True)
class Status:
    """Which seats are up, and what each told of its models."""

    catalog: Catalog
    reports: dict[int, dict[int, ModelReport]] = field(
        default_factory=dict
    )  # by seat, then by model; seats that are up
    known: dict[int, ModelReport] = field(default_factory=dict)  # the newest by model, also of seats that are down
    draining: bool = False

    def seat_up(self, seat: int, reports: list[ModelReport]) -> None:
        """A worker is ready, with these models loaded or failed."""
        self.reports[seat] = {report.model: report for report in reports}
        self.known.update(self.reports[seat])

    def seat_down(self, seat: int) -> None:
        """A worker is gone."""
        self.reports.pop(seat, None)

    @property
    def ready(self) -> bool:
        """Whether the default model can take work now."""
        return not self.draining and self.state(self.catalog.default) == "ready"

    def state(self, model: int) -> str:
        """`ready`, `failed` or `loading`."""
        states = {reports[model].state for reports in self.reports.values()}
        if "ready" in states:
            return "ready"
        if model in self.known and self.known[model].state == "failed":
            return "failed"
        return "loading"

    def check(self, model: int) -> None:
        """Raise Unavailable if no worker can run this model now."""
        report = self.known.get(model)
        if report and report.state == "failed" and self.state(model) == "failed":
            raise Unavailable("loading", f"the model failed to load: {report.reason}", retry_after_s=60)

    def describe(self, model: int) -> dict[str, Any]:
        """Everything that a client may want to know of one model."""
        artifact = self.catalog.artifacts[model]
        metadata = artifact.metadata
        height, width, channels = artifact.input_shape
        document: dict[str, Any] = {
            "name": artifact.name,
            "version": str(artifact.version),
            "state": self.state(model),
            "default": model == self.catalog.default,
            "architecture": metadata.architecture,
            "sha256": artifact.sha256,
            "input": {"height": height, "width": width, "channels": channels, "dtype": "uint8"},
            "labels": list(artifact.labels),
            "metrics": metadata.metrics,
        }
        if report := self.known.get(model):
            if report.state == "failed":
                return document | {"reason": report.reason}
            document |= {"engine": report.engine, "device": report.device, "precision": report.precision}
            document["max_batch_size"] = report.max_batch_size
            document["batch_latency_ms"] = {str(size): round(ms, 3) for size, ms in report.batch_latency_ms}
        return document

    def describe_named(self, name: str) -> dict[str, Any]:
        """The same by name, also of a model that could not be read; NotFound."""
        failed = (document for document in self.describe_failed() if document["name"] == name)
        return next(failed, None) or self.describe(self.catalog.find(name, None))

    def describe_failed(self) -> list[dict[str, Any]]:
        """The models that could not be read at all."""
        return [
            {"name": name, "version": str(version), "state": "failed", "reason": reason}
            for (name, version), reason in self.catalog.failed.items()
        ]
