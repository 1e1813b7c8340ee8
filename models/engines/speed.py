"""How fast engines are beside each other."""

import statistics
import time
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from models.engines.engine import Engine

_ROUND_SECONDS = 0.02
"""Seconds that an engine runs before the next one does: long beside the clock's resolution."""


def images_per_second(engines: Sequence[Engine], batch: NDArray[np.uint8], rounds: int) -> list[float]:
    """Return each engine's median speed on the batch [n, h, w, c].

    They take turns, so that other work on the machine slows all of them alike.
    """
    repeats = [_repeats(engine, batch) for engine in engines]
    seconds: list[list[float]] = [[] for _ in engines]
    for _ in range(rounds):
        for engine, repeat, times in zip(engines, repeats, seconds, strict=True):
            times.append(_run(engine, batch, repeat) / repeat)
    return [len(batch) / statistics.median(times) for times in seconds]


def _repeats(engine: Engine, batch: NDArray[np.uint8]) -> int:
    _run(engine, batch, 1)  # the first run makes the engine's buffers
    return max(1, round(_ROUND_SECONDS / _run(engine, batch, 1)))


def _run(engine: Engine, batch: NDArray[np.uint8], repeat: int) -> float:
    started = time.perf_counter()
    for _ in range(repeat):
        engine.run(batch)
    return time.perf_counter() - started
