"""What every step is told: the device, the sizes, where models and results go, and until when it has time."""

import signal
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Trip:
    """One visit to a machine. A quick one is a rehearsal: sizes so small that only mistakes show."""

    device: str
    """`cuda` or `cpu`"""
    quick: bool
    work: Path
    """Folder of models and logs, which later steps use again."""
    output: Path
    """Folder of results."""
    ends_s: float
    """Of the monotonic clock."""

    @property
    def cuda(self) -> bool:
        """Whether there is a GPU."""
        return self.device == "cuda"

    @property
    def networks(self) -> tuple[str, ...]:
        """The most telling first."""
        return ("resnet20",) if self.quick else ("resnet50", "resnet18", "resnet152")

    @property
    def batches(self) -> tuple[int, ...]:
        """Images in a batch."""
        return (1, 2) if self.quick else (1, 8, 64, 256)

    def has(self, seconds: float) -> bool:
        """Whether there is so much time left."""
        return self.quick or time.monotonic() + seconds < self.ends_s


def take_step(measure: Callable[[Trip], None], trip: Trip) -> None:
    """Measure, in a process of its own; SIGTERM ends that as an error does, and with it the servers that it started."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    measure(trip)
