"""What a worker reports of its models once it has tried to load them, or has unloaded one."""

from typing import Literal

from pydantic import TypeAdapter
from pydantic.dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class CandidateReport:
    """One way to run a model that was tried: its speed in images per second, 0 if it was not timed, or why not."""

    candidate: str
    images_per_second: float
    refused: str


@dataclass(frozen=True, slots=True)
class ModelReport:
    """One model in one worker: ready, failed and why, or not loaded any more.

    Attributes:
        model: index in the catalog.
        max_batch_size: images.
        most_images: that its engine can run at a time.
        memory_bytes: what the worker's own memory grew by, on a CPU; the first model brings the engine's library, too.
        batch_latency_ms: pairs of batch size and milliseconds, measured at warm-up.
        why: the reason why it is run so, where there was a choice.
        candidates: all that were tried for it.

    """

    model: int
    state: Literal["ready", "failed", "unloaded"]
    reason: str = ""
    engine: str = ""
    device: str = ""
    precision: str = ""
    load_seconds: float = 0.0
    memory_bytes: int = 0
    max_batch_size: int = 1
    most_images: int = 1
    batch_latency_ms: tuple[tuple[int, float], ...] = ()
    why: str = ""
    candidates: tuple[CandidateReport, ...] = ()

    @property
    def image_ms(self) -> float:
        """What an image cost in a batch of the largest size that was measured."""
        size, ms = max(self.batch_latency_ms, default=(1, 0.0))
        return ms / size


@dataclass(frozen=True, slots=True)
class WorkerReport:
    """A report, and which of the worker's lives it is from."""

    epoch: int
    report: ModelReport

    def to_line(self) -> bytes:
        """One line of JSON."""
        return _ADAPTER.dump_json(self) + b"\n"

    @classmethod
    def from_line(cls, line: bytes) -> "WorkerReport":
        """The report that a line holds."""
        return _ADAPTER.validate_json(line)


_ADAPTER = TypeAdapter(WorkerReport)
