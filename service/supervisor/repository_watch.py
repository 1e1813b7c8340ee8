"""Notices changes of the model repository's folders, without reading a file."""

import os
import time
from collections.abc import Iterator
from pathlib import Path

from service.repository_place import RepositoryPlace

Fingerprint = frozenset[tuple[str, int, int, int]]
"""Path, inode, size and time of change of every folder and file of a model."""


class RepositoryWatch:
    """Looks every so many seconds; what has changed is told once it was at rest from one look to the next.

    What lies in a store may always have changed: the copy that is made of it tells.
    """

    def __init__(self, repository: RepositoryPlace, interval_s: float) -> None:
        self._repository, self._interval_s = repository, interval_s
        self._told = self._seen = fingerprint(repository)
        self._due_s = time.monotonic() + interval_s

    def look(self, now_s: float) -> bool:
        """Whether the repository is another than it was when that was last told, and is not being written to."""
        if now_s < self._due_s:
            return False
        self._due_s = now_s + self._interval_s
        if not isinstance(self._repository, Path):
            return True
        before, self._seen = self._seen, fingerprint(self._repository)
        is_news = self._seen == before != self._told
        if is_news:
            self._told = self._seen
        return is_news


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
