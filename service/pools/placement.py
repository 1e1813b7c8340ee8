"""Where models are run, and how they may be: what the settings leave, and what the machine has."""

from collections.abc import Sequence
from dataclasses import dataclass

from models.engines.backend import Backend, candidates
from models.machine.devices import choose_device, first_device
from service.config.settings import Settings
from service.policy import WORKERS_PER_GPU
from service.worker.warmup import LoadOptions


@dataclass(frozen=True, slots=True)
class Placement:
    """The devices, the workers on them, and the ways in which they may run a model.

    Attributes:
        accelerator: `cpu` or `cuda`.
        device: one of them, as engines name it.

    """

    accelerator: str
    devices: int
    workers: int
    device: str
    load: LoadOptions
    ways: Sequence[Backend]

    @classmethod
    def of(cls, settings: Settings, cores: int) -> "Placement":
        """Divide so many cores among the workers; DeviceError or EngineError if what is asked for is not there."""
        accelerator, devices = choose_device(settings.device)
        ways = candidates(settings.engine, accelerator, settings.precision, settings.compile)
        workers = devices * (settings.workers or (cores if accelerator == "cpu" else WORKERS_PER_GPU))
        load = LoadOptions(
            settings.engine,
            settings.precision,
            settings.compile,
            threads=max(1, cores // workers),
            max_batch_sizes={},
            max_accuracy_loss=settings.max_accuracy_loss,
        )
        return cls(accelerator, devices, workers, first_device(accelerator), load, ways)

    @property
    def needs_weights(self) -> bool:
        """Whether models may be run from their weights."""
        return any(way.engine == "torch" for way in self.ways)

    @property
    def needs_int8(self) -> bool:
        """Whether models may be run in 8 bits."""
        return any(way.precision == "int8" for way in self.ways)
