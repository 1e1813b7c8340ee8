"""What makes the processes, as the supervisor sees it."""

from multiprocessing.process import BaseProcess
from typing import Protocol

from service.ipc.pipe import Pipe


class Launcher(Protocol):
    """Makes the processes; OSError, RuntimeError or MemoryError if the machine has no room for one now."""

    def launch_worker(self, index: int) -> BaseProcess:
        """Start the worker of this number."""
        ...

    def launch_api(self, index: int, control: Pipe) -> BaseProcess:
        """Start an API process that listens to this pipe."""
        ...

    def close_listener(self) -> None:
        """Close this process's copy of the listening socket."""
        ...
