"""How much of its capacity an API process and its workers have in use, of each thing that may run out."""

import math
import time
from collections.abc import Callable, Mapping

from service.batching.loop_time import LoopTime
from service.batching.wait_estimate import WaitEstimate
from service.ipc.shared_state import SharedState
from service.metrics.metrics import Metrics
from service.policy import SATURATION_S, WAIT_SHARE
from service.prediction.model_status import ModelStatus
from service.prediction.services import Services

_SPENT = ("full", "worker_lost")  # reasons of refusals that mean that there was no capacity left

Share = Callable[[], float]
"""What part of something is in use now, or was since the last call: 0 to 1."""


class Saturation:
    """The share of each resource in use, on average over the last SATURATION_S; older looks fade exponentially."""

    def __init__(self, resources: Mapping[str, Share], clock: Callable[[], float] = time.monotonic) -> None:
        self._resources, self._clock = resources, clock
        self._looked_s = clock()
        self.shares = dict.fromkeys(resources, 0.0)

    def look(self) -> None:
        """Take what is in use now into the averages."""
        now_s = self._clock()
        weight = -math.expm1((self._looked_s - now_s) / SATURATION_S)
        self._looked_s = now_s
        for name, share in self._resources.items():
            self.shares[name] += weight * (min(1.0, max(0.0, share())) - self.shares[name])


def resources(
    services: Services, metrics: Metrics, shared_state: SharedState, status: ModelStatus, wait_estimate: WaitEstimate
) -> dict[str, Share]:
    """Everything that may run out, by the names that the metrics give it.

    The wait is what is held, as a share of the longest that a request of the usual deadline may wait: at 1 it is
    refused.
    """
    settings, admission, decoder = services.settings, services.admission, services.decoder
    longest_s = min(settings.request_timeout * WAIT_SHARE, settings.target_latency or math.inf)

    def workers() -> float:
        up = status.workers
        if not up:
            return float(admission.open)  # not while the first start
        return sum([bool(shared_state.began_ns[worker] > 0) for worker in up]) / len(up)

    return {
        "workers": workers,
        "decoders": lambda: decoder.busy / settings.decode_threads,
        "event_loop": LoopTime(),
        "places": lambda: admission.places_taken / admission.capacity,
        "bytes": lambda: 1 - admission.bytes_left / settings.max_bytes_in_flight,
        "wait": lambda: (wait_estimate.total_s + decoder.estimate.wait_s) / longest_s,
        "refusals": Refusals(metrics),
    }


class Refusals:
    """Whether anything has been refused for want of capacity since the last call, as a share."""

    def __init__(self, metrics: Metrics) -> None:
        self._row, self._cells = metrics.row, [metrics.shed.cell(reason) for reason in _SPENT]
        self._count = self._read()

    def __call__(self) -> float:
        """1 if anything has, else 0."""
        before, self._count = self._count, self._read()
        return float(self._count > before)

    def _read(self) -> float:
        return sum([float(self._row[cell]) for cell in self._cells])
