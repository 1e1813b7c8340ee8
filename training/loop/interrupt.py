"""Stopping a run between two steps."""

import signal
from types import FrameType, TracebackType
from typing import Self

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interrupt:
    """Notes the first Ctrl-C or SIGTERM within this context; the second acts as it would have outside.

    If `patient`, all are noted: `torchrun` passes on the signal that a terminal has sent to its processes already.
    `noted` is what this process was sent, at any moment; `agreed` what a run stops for, in all its processes.
    """

    def __init__(self, *, patient: bool = False) -> None:
        self.noted: signal.Signals | None = None
        self.agreed: signal.Signals | None = None
        self._patient = patient

    def __enter__(self) -> Self:
        self._previous = {number: signal.signal(number, self._note) for number in _SIGNALS}
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self._restore()

    @property
    def exit_code(self) -> int:
        """What a shell expects of a process that a signal ended; 0 if the run did not stop for one."""
        return 0 if self.agreed is None else 128 + self.agreed

    def _note(self, number: int, _: FrameType | None) -> None:
        self.noted = signal.Signals(number)
        if not self._patient:
            self._restore()

    def _restore(self) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)
