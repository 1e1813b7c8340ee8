"""Every descriptor that crosses a process boundary."""

from service.ipc.pipe import Pipe
from service.ipc.shared_state import SharedState
from service.ipc.slots import SlotPool


class Channels:
    """The pipes and the shared memory of the server, made once, before any process is started."""

    def __init__(self, workers: int, api_processes: int, slots: int, input_bytes: int, classes: int) -> None:
        """`slots` for each API process, of images of at most `input_bytes`."""
        self.shared_state = SharedState(workers, api_processes)
        self._slots = slots
        self.slot_pool = SlotPool(slots * api_processes, input_bytes, classes)
        self.requests = [Pipe(packets=True) for _ in range(workers)]
        self.replies = [Pipe() for _ in range(api_processes)]
        self.reports = [Pipe() for _ in range(workers)]

    def slots_of(self, api: int) -> range:
        """The slots that an API process owns."""
        return range(api * self._slots, (api + 1) * self._slots)
