"""Runs that stop after so many steps, as if by Ctrl-C."""

import signal

from training.loop.interrupt import Interrupt
from training.loop.progress import Observer, Progress
from training.loop.run import Run


class _StopsAfter(Observer):
    def __init__(self, steps: int) -> None:
        self.left, self.interrupt = steps, Interrupt()

    def step_done(self, _: Progress) -> None:
        self.left -= 1
        if not self.left:
            self.interrupt.noted = signal.SIGINT


def train_for(run: Run, steps: int) -> None:
    """Train on, at most so many steps."""
    observer = _StopsAfter(steps)
    run.train(observer, observer.interrupt)
