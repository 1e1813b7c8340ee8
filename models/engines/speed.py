"""How fast engines are beside each other."""

import statistics
import time
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from models.engines.engine import Engine

_ROUND_SECONDS = 0.02
"""Seconds that an engine runs before the next one does: long beside the clock's resolution."""


def images_per_second(
    engines: Sequence[Engine], batch: NDArray[np.uint8], rounds: int, begin: Callable[[int], None] = lambda _: None
) -> list[float]:
    """Return each engine's median speed on the batch [n, h, w, c]; `begin` is told whose turn comes, by its place.

    They take turns, so that other work on the machine slows all of them alike.
    """
    repeats: list[int] = []
    for place, engine in enumerate(engines):
        begin(place)
        repeats.append(_repeats(engine, batch))
    seconds: list[list[float]] = [[] for _ in engines]
    for _ in range(rounds):
        for place, (engine, repeat) in enumerate(zip(engines, repeats, strict=True)):
            begin(place)
            seconds[place].append(_run(engine, batch, repeat) / repeat)
    return [len(batch) / statistics.median(times) for times in seconds]


def _repeats(engine: Engine, batch: NDArray[np.uint8]) -> int:
    _run(engine, batch, 1)  # the first run makes the engine's buffers
    return max(1, round(_ROUND_SECONDS / _run(engine, batch, 1)))


def _run(engine: Engine, batch: NDArray[np.uint8], repeat: int) -> float:
    started = time.perf_counter()
    for _ in range(repeat):
        engine.run(batch)
    return time.perf_counter() - started
