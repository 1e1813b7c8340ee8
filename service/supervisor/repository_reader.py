"""Reads the model repository while the server runs, in a process of its own.

Whatever a file does to the process that reads it, it does to one that serves nothing; and the supervisor watches the
others meanwhile.
"""

import math
import os
import time
from collections.abc import Callable
from functools import partial
from multiprocessing import get_context
from multiprocessing.process import BaseProcess

from models.artifact.artifact import Artifact
from service.errors import NotFound
from service.ipc.shared_memory import SharedObject, SharedSequence
from service.logs import log_crash
from service.parent_death import die_with_parent
from service.repository import RepositoryError
from service.side_process import no_leak
from service.supervisor.model_set import ModelSet
from service.supervisor.model_source import Found
from service.supervisor.reactor import Reactor
from service.supervisor.signals import ignore_stops, stops_wait


class RepositoryReader:
    """One reading at a time, each in so many seconds at most."""

    def __init__(self, reactor: Reactor, timeout_s: float) -> None:
        self._reactor, self._timeout_s = reactor, timeout_s
        self._process: BaseProcess | None = None
        self._ends_at_s = math.inf
        self._is_late = False

    def read(self, find: Callable[[], Found], deliver: Callable[[ModelSet | str], None]) -> None:
        """Call `find` there; `deliver` gets the models that it found, or its RepositoryError."""
        try:
            with stops_wait(), no_leak():
                found, files = SharedObject[Found | str](), SharedSequence[Artifact]()
                process = get_context("fork").Process(target=_find, args=(find, found, files, os.getpid()))
                process.start()
        except (OSError, RuntimeError, MemoryError) as error:
            deliver(f"the repository cannot be read now: {error}")
            return
        self._process, self._ends_at_s = process, time.monotonic() + self._timeout_s
        self._reactor.watch(process.sentinel, partial(self._on_end, process, found, files, deliver))

    def look(self, now_s: float) -> None:
        """End a reading that takes too long."""
        if self._process and now_s > self._ends_at_s:
            self._process.kill()
            self._is_late = True

    def close(self) -> None:
        """End the reading, if there is one."""
        if self._process:
            self._process.kill()

    def _on_end(
        self,
        process: BaseProcess,
        found: SharedObject[Found | str],
        files: SharedSequence[Artifact],
        deliver: Callable[[ModelSet | str], None],
    ) -> None:
        self._reactor.forget(process.sentinel)
        process.join()
        code, late = process.exitcode, self._is_late
        self._process, self._ends_at_s, self._is_late = None, math.inf, False
        process.close()
        ended = f"was not done within {self._timeout_s:g} s" if late else f"ended with exit code {code}"
        result = found.load() if code == 0 else f"the process that reads the repository {ended}"
        found.close()
        if isinstance(result, str):
            files.close()
            deliver(result)
        else:
            deliver(ModelSet(result.catalog, files, result.choices))


@log_crash
def _find(
    find: Callable[[], Found],
    found: SharedObject[Found | str],
    files: SharedSequence[Artifact],
    parent_pid: int,
) -> None:
    ignore_stops()
    die_with_parent(parent_pid)
    try:
        result = find()
    except (RepositoryError, NotFound) as error:
        found.store(str(error))
    else:
        files.store(result.catalog.artifacts)
        found.store(result._replace(catalog=result.catalog.without_files()))
