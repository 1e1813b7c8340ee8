"""Engines beside each other."""

import numpy as np
from numpy.typing import NDArray

from models.engines.speed import images_per_second


class Recorder:
    """An engine that says when it runs."""

    device, precision, library = "cpu", "fp32", "none"

    def __init__(self, name: str, log: list[str]) -> None:
        self.name, self.log = name, log

    def run(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        self.log.append(self.name)
        return np.empty((len(images), 10), np.float32)


def test_engines_take_turns_at_being_timed():
    log: list[str] = []
    told: list[tuple[int, int]] = []
    engines = [Recorder("a", log), Recorder("b", log)]
    batch = np.zeros((4, 2, 2, 1), np.uint8)
    speeds = images_per_second(engines, batch, 5, lambda place: told.append((place, len(log))))
    turns = [name for name, previous in zip(log, [None, *log], strict=False) if name != previous]
    assert turns == ["a", "b"] * 6  # once to warm up, then five rounds
    assert [engines[place].name for place, _ in told] == turns
    assert [log[before] for _, before in told] == turns  # each is told before its turn
    assert all(speed > 0 for speed in speeds)
