"""The server with a part that is taken out and put in again many times a second.

    python -m benchmarks.switched_server access-log|shadow|NAME=VALUE FILE FLAGS...

FLAGS are those of the server, and put the part in; a tuned constant is one, too: without it, it has its usual value.
Each API process appends a line of JSON to FILE for each pair of slots: what it did in a slot with the part, and in one
without it. Which of the two comes first changes at random.
"""

import asyncio
import json
import random
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import wraps
from pathlib import Path
from typing import Any

from benchmarks.changed_policy import read_change
from service import policy
from service.cli import main
from service.parsing.head import Head
from service.prediction.api_process import ApiProcess
from service.prediction.response import Response

QUANTILE = 0.99

Put = Callable[[bool], None]
"""Puts the part in, or takes it out."""


@dataclass(frozen=True, slots=True)
class SwitchedPart:
    """A part of an API process that can be taken out.

    Attributes:
        find: finds it in an API process, which is told then when to have it.
        slot_s: for how long the process has it, or has it not, while it is measured.
        settling_s: what is not counted before: what was under way when the part was put in or taken out ends.

    """

    find: Callable[[ApiProcess], Put]
    slot_s: float = 0.04
    settling_s: float = 0.01


def access_log(api: ApiProcess) -> Put:
    """The access log: a request has its line if it ends while the log is in, and lines are written before it is out."""
    log = api.services.access_log
    assert log is not None
    note = log.note

    def put(is_in: bool) -> None:
        log.flush()
        log.note = note if is_in else lambda *_: None  # type: ignore[method-assign]

    return put


def shadow(api: ApiProcess) -> Put:
    """The shadow; copies that wait are dropped when it is taken out."""
    batcher = api.services.batcher
    part = batcher._shadow
    return lambda is_in: batcher.begin_shadow(part if is_in else None)


def constant(assignment: str) -> SwitchedPart:
    """Another value of a constant of the policy, in every module that reads it each time that it needs it."""
    name, value = read_change(assignment)
    usual = getattr(policy, name)

    def find(_: ApiProcess) -> Put:
        readers = [
            module for path, module in sys.modules.items() if path.startswith("service.") and name in vars(module)
        ]

        def put(is_in: bool) -> None:
            for module in readers:
                setattr(module, name, value if is_in else usual)

        return put

    return SwitchedPart(find)


PARTS = {
    "access-log": SwitchedPart(access_log),
    # copies wait for others for 100 ms, and their worker may take a while
    "shadow": SwitchedPart(shadow, slot_s=0.8, settling_s=0.2),
}


class Slot:
    """What an API process does in some time; requests count once they are answered."""

    def __init__(self) -> None:
        self._began_s, self._began_cpu_s = time.monotonic(), time.process_time()
        self.took_ns: list[int] = []  # of good answers
        self.failed = 0

    def end(self) -> dict[str, float]:
        """As a line of the file tells it, with the names of `BurstResult`."""
        took_s, took_cpu_s = time.monotonic() - self._began_s, time.process_time() - self._began_cpu_s
        took_ns, n = sorted(self.took_ns) or [0], max(1, len(self.took_ns))
        return {
            "per_second": len(self.took_ns) / took_s,
            "p99_ms": took_ns[int(QUANTILE * len(took_ns))] / 1e6,
            "cpu_us": took_cpu_s / n * 1e6,
            "failed": self.failed,
        }


class Switching:
    """Takes the part of an API process out and puts it in again, for as long as it lives.

    It learns of each answer where traces would be made of them: compiled classes cannot be patched.
    """

    def __init__(self, api: ApiProcess, part: SwitchedPart, path: Path) -> None:
        self._put, self._part, self._path = part.find(api), part, path
        self._slot = Slot()

    def note(self, response: Response, _head: Head, _image_bytes: Sequence[int]) -> None:
        """A request was answered."""
        if response.status < 400:
            self._slot.took_ns.append(response.timestamps.total_ns)
        else:
            self._slot.failed += 1

    def note_cancelled(self, *_: object) -> None:
        """A client has left."""

    def close(self, _timeout_s: float) -> None:
        """The process ends."""

    async def run(self) -> None:
        """Write pairs of slots."""
        was_in: bool | None = None
        while True:
            pair: dict[str, Any] = {}
            for is_in in random.sample((True, False), 2):
                if is_in != was_in:
                    self._put(is_in)
                was_in = is_in
                await asyncio.sleep(self._part.settling_s)
                self._slot = Slot()
                await asyncio.sleep(self._part.slot_s)
                pair["with" if is_in else "without"] = self._slot.end()
            with self._path.open("a") as file:
                file.write(json.dumps(pair) + "\n")


def serve() -> int:
    """Run the server."""
    name, path = sys.argv.pop(1), Path(sys.argv.pop(1))
    part = PARTS.get(name) or constant(name)

    begin = ApiProcess.__init__

    @wraps(begin)
    def begun(self: ApiProcess, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401
        begin(self, *args, **kwargs)
        switching = Switching(self, part, path)
        self.services = replace(self.services, tracing=switching)  # type: ignore[arg-type]
        self.switching = asyncio.get_running_loop().create_task(switching.run())  # type: ignore[attr-defined]

    ApiProcess.__init__ = begun  # type: ignore[method-assign]
    return main()


if __name__ == "__main__":
    sys.exit(serve())
