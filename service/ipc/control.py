"""What the supervisor tells an API process, one line of JSON a message, in the order in which it happened."""

import json
import os
from collections.abc import Callable
from dataclasses import asdict, dataclass

from service.ipc.reports import ModelReport
from service.ipc.transport import Pipe


@dataclass(frozen=True, slots=True)
class SeatUp:
    """A seat's worker of this epoch takes batches; what it told of its models."""

    seat: int
    epoch: int
    reports: tuple[ModelReport, ...]


@dataclass(frozen=True, slots=True)
class SeatDown:
    """A seat's worker is dead: it writes to no slot any more."""

    seat: int


@dataclass(frozen=True, slots=True)
class Begin:
    """All that was so when this API process started has been told."""


@dataclass(frozen=True, slots=True)
class Drain:
    """Stop: not ready any more at once, no new connections after `delay_s`, done after `grace_s` at the latest."""

    delay_s: float
    grace_s: float


Message = SeatUp | SeatDown | Begin | Drain
_KINDS: dict[str, type[Message]] = {kind.__name__: kind for kind in (SeatUp, SeatDown, Begin, Drain)}


def send(pipe: Pipe, message: Message) -> None:
    """Tell it. A process that does not read any more is about to be found dead: what it misses does not matter."""
    line = json.dumps({"kind": type(message).__name__, **asdict(message)}) + "\n"
    try:
        os.write(pipe.writer, line.encode())
    except BlockingIOError:
        return


class Listener:
    """Puts lines together from what a pipe gives, and hands over each message."""

    def __init__(self, pipe: Pipe, deliver: Callable[[Message], None]) -> None:
        self._reader, self._deliver, self._rest = pipe.reader, deliver, b""
        os.set_blocking(self._reader, False)

    def read(self) -> None:
        """Read what is there."""
        try:
            self._rest += os.read(self._reader, 1 << 16)
        except BlockingIOError:
            return
        *lines, self._rest = self._rest.split(b"\n")
        for line in lines:
            self._deliver(parse(line))


def parse(line: bytes) -> Message:
    """The message in a line."""
    fields = json.loads(line)
    kind = _KINDS[fields.pop("kind")]
    if kind is SeatUp:
        fields["reports"] = tuple(ModelReport(**report) for report in fields["reports"])
    return kind(**fields)
