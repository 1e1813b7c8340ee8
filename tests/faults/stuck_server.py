"""`python -m tests.faults.stuck_server`: the server, whose event loop stands still for whoever asks for it.

`GET /models/spin` computes for ever, `wait` waits for ever, and `hold` waits with Python's lock held, so that no other
thread of the process goes on either.
"""

import ctypes
import sys
import threading
from collections.abc import Callable
from typing import Any

import structlog

from service.cli import main
from service.prediction.model_status import ModelStatus

log = structlog.get_logger()


def spin() -> None:
    """Compute."""
    while True:
        pass


WAYS: dict[str, Callable[[], object]] = {
    "spin": spin,
    "wait": threading.Event().wait,
    "hold": ctypes.PyDLL(None).pause,
}


describe = ModelStatus.describe_named


def stand_still(status: ModelStatus, name: str) -> dict[str, Any]:
    """For these names; others are answered."""
    if name in WAYS:
        log.info("stands still", way=name)
        WAYS[name]()
    return describe(status, name)


if __name__ == "__main__":
    ModelStatus.describe_named = stand_still  # type: ignore[method-assign]
    sys.exit(main())
