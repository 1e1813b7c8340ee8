"""What makes the processes, as the supervisor sees it."""

from multiprocessing.process import BaseProcess
from typing import Protocol

from service.ipc.pipe import Pipe
from service.pools.model_set import ModelSet


class Launcher(Protocol):
    """Makes the processes; OSError, RuntimeError or MemoryError if the machine has no room for one now."""

    def launch_worker(self, seat: int, models: ModelSet, wanted: frozenset[int] | None) -> BaseProcess:
        """Start a worker in this seat, which loads these models: those that are wanted, or all."""
        ...

    def launch_api(self, index: int, control: Pipe, models: ModelSet) -> BaseProcess:
        """Start an API process that listens to this pipe, and serves these models."""
        ...

    def close_listener(self) -> None:
        """Close this process's copy of the listening socket."""
        ...
