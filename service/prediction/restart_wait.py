"""How long requests wait for a worker where none is up."""

import asyncio

from service.batching.admission import Admission, no_worker
from service.batching.batcher import Batcher
from service.policy import RESTART_WAIT_FACTOR, RESTART_WAIT_LEAST_S
from service.prediction.model_status import ModelStatus


class RestartWait:
    """While no worker is up no request begins, and those that have begun wait for a while."""

    def __init__(self, status: ModelStatus, admission: Admission, batcher: Batcher) -> None:
        self._status, self._admission, self._batcher = status, admission, batcher
        self._loop = asyncio.get_running_loop()
        self._ups = 0  # of workers
        self._start_s = 1.0  # what the last of these took; a guess before the first

    def worker_up(self, start_s: float) -> None:
        """A worker is there, whose start took so long."""
        self._ups, self._start_s = self._ups + 1, start_s
        self._admission.restart_s = None

    def worker_down(self) -> None:
        """A worker has ended, perhaps the last one."""
        if not self._status.any_worker:
            self._admission.restart_s = self._start_s
            self._look_later()

    def _look_later(self) -> None:
        wait_s = max(RESTART_WAIT_LEAST_S, self._start_s * RESTART_WAIT_FACTOR)
        self._loop.call_later(wait_s, self._stop_waiting, self._ups)

    def _stop_waiting(self, ups: int) -> None:
        """None came up: tell all that no retired worker runs, and again those that are decoded later."""
        if ups == self._ups:
            self._batcher.fail_waiting(no_worker(self._start_s))
            self._look_later()
