"""Every descriptor that crosses a process boundary."""

from service.ipc.pipe import Pipe
from service.ipc.shared_state import SharedState
from service.ipc.slots import SlotPool


class Channels:
    """The pipes and the shared memory of the server, made once, before any process is started.

    There are two seats for each worker, so that the workers of another set of models can start beside those that serve.
    """

    def __init__(self, workers: int, api_processes: int, slots: int, input_bytes: int, classes: int) -> None:
        """`slots` for each API process, of images of at most `input_bytes`."""
        self.workers, seats = workers, 2 * workers
        self.shared_state = SharedState(seats, api_processes)
        self._slots = slots
        self.slot_pool = SlotPool(slots * api_processes, input_bytes, classes)
        self.requests = [Pipe(packets=True) for _ in range(2 * seats)]  # by row of the shared state
        self.replies = [Pipe() for _ in range(api_processes)]
        self.reports = [Pipe() for _ in range(seats)]
        self.api_reports = [Pipe() for _ in range(api_processes)]

    def close(self) -> None:
        """Close every pipe in this process."""
        for pipe in (*self.requests, *self.replies, *self.reports, *self.api_reports):
            pipe.close()

    def worker_of(self, seat: int) -> int:
        """The number by which the log names the worker in this seat, or in this row of the shared state."""
        return seat % self.workers

    def slots_of(self, api: int) -> range:
        """The slots that an API process owns."""
        return range(api * self._slots, (api + 1) * self._slots)
