"""Notices changes of the model repository's folders, without reading a file."""

import math
import os
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import structlog

from service.repository_place import RepositoryPlace
from service.supervisor.reactor import Reactor
from service.supervisor.side_reader import Failure, SideReader

log = structlog.get_logger()

Fingerprint = frozenset[tuple[str, int, int, int]]
"""Path, inode, size and time of change of every folder and file of a model."""


class RepositoryWatch:
    """Looks every so many seconds; what has changed is told once it was at rest from one look to the next.

    What lies in a store may always have changed: the copy that is made of it tells.
    """

    def __init__(
        self,
        reactor: Reactor,
        repository: RepositoryPlace,
        interval_s: float,
        timeout_s: float,
        on_change: Callable[[], None],
    ) -> None:
        """A look of more than `timeout_s` is given up; without an interval there is none."""
        self._repository, self._interval_s, self._on_change = repository, interval_s, on_change
        self._reader = SideReader[Fingerprint](reactor, "the repository's folders", timeout_s)
        self._told = self._seen = fingerprint(repository) if interval_s else frozenset()
        self._due_s = time.monotonic() + interval_s if interval_s else math.inf

    @property
    def busy(self) -> bool:
        """Whether it looks just now."""
        return self._reader.busy

    def look(self, now_s: float) -> None:
        """Begin to look, if it is time to; a repository that is another, and is not being written to, is told."""
        self._reader.look(now_s)
        if now_s < self._due_s or self.busy:
            return
        self._due_s = now_s + self._interval_s
        if isinstance(self._repository, Path):
            self._reader.read(partial(fingerprint, self._repository), self._on_seen)
        else:
            self._on_change()

    def close(self) -> None:
        """Look no more."""
        self._due_s = math.inf
        self._reader.close()

    def _on_seen(self, found: Fingerprint | Failure) -> None:
        if isinstance(found, Failure):
            log.error("repository not watched", reason=found.reason)
            return
        before, self._seen = self._seen, found
        if self._seen == before != self._told:
            self._told = self._seen
            self._on_change()


def fingerprint(repository: RepositoryPlace) -> Fingerprint:
    """What another one of tells that a model was changed; hidden folders are those that are still being written."""
    return frozenset(_describe(repository, depth=3) if isinstance(repository, Path) else ())


def _describe(folder: Path, depth: int) -> Iterator[tuple[str, int, int, int]]:
    try:
        entries = [entry for entry in os.scandir(folder) if not entry.name.startswith(".")]
    except OSError:
        return
    for entry in entries:
        try:
            stat = entry.stat()
        except OSError:
            continue
        yield entry.path, stat.st_ino, stat.st_size, stat.st_mtime_ns
        if depth > 1 and entry.is_dir():
            yield from _describe(Path(entry.path), depth - 1)
