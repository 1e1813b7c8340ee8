"""The end of an API process: it takes no new connections, and what it cannot answer in time it refuses."""

import asyncio
import math
from collections.abc import Callable

from service.batching.admission import Admission
from service.errors import ServiceError, Unavailable
from service.metrics.metrics import Metrics
from service.policy import REFUSAL_MARGIN_S
from service.prediction.model_status import ModelStatus


class Shutdown:
    """Draining, from the supervisor's word to the last refusal.

    `stop` is called once no new connection is to be taken, `refuse_all` at the end with the error for every request
    that is still under way.
    """

    def __init__(
        self,
        status: ModelStatus,
        admission: Admission,
        metrics: Metrics,
        stop: Callable[[], None],
        refuse_all: Callable[[ServiceError], None],
    ) -> None:
        self._status, self._admission, self._metrics = status, admission, metrics
        self._stop, self._refuse_all = stop, refuse_all
        self._loop = asyncio.get_running_loop()
        self._refused_before = math.inf  # requests, when the time to drain was over
        self._ends_at_s = math.inf  # on the loop's clock

    def begin(self, delay_s: float, grace_s: float) -> None:
        """Be ready no more, stop after the delay, and refuse what is left shortly before the grace period is over."""
        self._status.draining = True
        self._ends_at_s = self._loop.time() + grace_s
        self._loop.call_later(delay_s, self._stop)
        self._loop.call_later(max(delay_s, grace_s - REFUSAL_MARGIN_S), self._refuse_the_rest)

    @property
    def left_s(self) -> float:
        """Time until the latest end; infinite before draining."""
        return self._ends_at_s - self._loop.time()

    @property
    def refused(self) -> int:
        """Requests that were not answered in the time that there was to drain, and were refused."""
        return int(max(0.0, self._refusals - self._refused_before))

    @property
    def _refusals(self) -> float:
        """Requests that this process and its predecessors refused because of a drain."""
        return float(self._metrics.row[self._metrics.shed.cell("draining")])

    def _refuse_the_rest(self) -> None:
        self._admission.draining = True
        self._refused_before = self._refusals
        self._refuse_all(Unavailable("draining", "the server stopped before this request was answered"))
