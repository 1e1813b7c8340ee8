"""What is not counted but is so now, as the API process sees it that is scraped: models, readiness, busy workers."""

import platform
from collections.abc import Iterator, Sequence
from importlib.metadata import version
from typing import NamedTuple

from prometheus_client.core import GaugeMetricFamily, Metric

MODEL_STATES = ("ready", "loading", "failed", "unloaded")


class ModelSnapshot(NamedTuple):
    """One model; the version is empty if a model has none that could be read.

    A broken one is served as it was loaded: its files cannot be read any more.
    """

    name: str
    version: str
    state: str
    engine: str = ""
    device: str = ""
    precision: str = ""
    sha256: str = ""
    memory_bytes: int = 0
    is_broken: bool = False


class Snapshot(NamedTuple):
    """The server at one moment."""

    ready: bool
    busy_workers: int
    models: list[ModelSnapshot]

    def collect(self) -> Iterator[Metric]:
        """The snapshot as families that prometheus_client renders."""
        yield GaugeMetricFamily("resnet_ready", "1 while GET /readyz answers 200.", float(self.ready))
        yield GaugeMetricFamily("resnet_workers_busy", "Workers that run a batch.", float(self.busy_workers))
        yield _states(self.models)
        ready = [model for model in self.models if model.state == "ready"]
        yield _info(ready)
        yield _memory(ready)


def _states(models: Sequence[ModelSnapshot]) -> Metric:
    states = GaugeMetricFamily(
        "resnet_model_state",
        "1 for the state that each model is in; failed also for one that is served, and could not be read again.",
        labels=["model", "version", "state"],
    )
    for model in models:
        for state in MODEL_STATES:
            is_so = model.state == state or (state == "failed" and model.is_broken)
            states.add_metric((model.name, model.version, state), float(is_so))
    return states


def _info(ready: Sequence[ModelSnapshot]) -> Metric:
    labels = ("model", "version", "engine", "device", "precision", "sha256")
    info = GaugeMetricFamily("resnet_model_info", "1 for each model that is served.", labels=labels)
    for model in ready:
        info.add_metric((model.name, model.version, model.engine, model.device, model.precision, model.sha256), 1.0)
    return info


def _memory(ready: Sequence[ModelSnapshot]) -> Metric:
    memory = GaugeMetricFamily(
        "resnet_model_memory_bytes",
        "What a worker's own memory grew by while it loaded the model; the first one brings the engine, too.",
        labels=["model", "version"],
    )
    for model in ready:
        memory.add_metric((model.name, model.version), float(model.memory_bytes))
    return memory


def build_info() -> Metric:
    """What stays so for the life of the process, and is in a file."""
    build = GaugeMetricFamily("resnet_build_info", "1; what this server is made of.", labels=["version", "python"])
    build.add_metric([version("resnet-serve"), platform.python_version()], 1.0)
    return build
