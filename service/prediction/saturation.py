"""How much of its capacity an API process and its workers have in use, of each thing that may run out."""

import math
import os
import threading
import time
import weakref
from collections.abc import Callable, Mapping
from contextlib import suppress

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


class LoopTime:
    """The share of the time that the event loop's thread, which is the one that asks, ran or waited for a core."""

    def __init__(self) -> None:
        self._stat: int | None = None  # stays open: to open it takes far longer than to read it
        with suppress(OSError):
            self._stat = os.open(f"/proc/self/task/{threading.get_native_id()}/schedstat", os.O_RDONLY)
            weakref.finalize(self, os.close, self._stat)
        self._wanted_ns, self._now_ns = self._read_ns(), time.monotonic_ns()

    def __call__(self) -> float:
        """Of the time since the last call."""
        wanted_ns, now_ns = self._read_ns(), time.monotonic_ns()
        share = (wanted_ns - self._wanted_ns) / max(1, now_ns - self._now_ns)
        self._wanted_ns, self._now_ns = wanted_ns, now_ns
        return share

    def _read_ns(self) -> int:
        """Ran and waited (sched-stats of the kernel's documentation); where that is not known, ran."""
        if self._stat is None:
            return time.thread_time_ns()
        return sum(map(int, os.pread(self._stat, 64, 0).split()[:2]))


class Refusals:
    """1 if anything has been refused for want of capacity since the last call."""

    def __init__(self, metrics: Metrics) -> None:
        self._row, self._cells = metrics.row, [metrics.shed.cell(reason) for reason in _SPENT]
        self._count = self._read()

    def __call__(self) -> float:
        """0 or 1."""
        before, self._count = self._count, self._read()
        return float(self._count > before)

    def _read(self) -> float:
        return sum([float(self._row[cell]) for cell in self._cells])
