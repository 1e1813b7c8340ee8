"""Notices changes of the model repository: of its folders, without reading a file, or of what a store has."""

import math
import os
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import structlog

from service.catalog.repository import RepositoryError
from service.catalog.repository_place import RepositoryPlace
from service.policy import REFUSED_PAUSE_MOST_S, REFUSED_PAUSE_S
from service.pools.api_pool import Answer
from service.pools.reactor import Reactor
from service.supervisor.side_reader import Failure, SideReader

log = structlog.get_logger()

Fingerprint = frozenset[tuple[str, int, int, int]]
"""Path, inode, size and time of change, rights included, of every folder and file of a model."""


class RepositoryWatch:
    """Looks every so many seconds; what has changed is told once it was at rest from one look to the next.

    A change that was refused is told again after a pause, which doubles each time: what hindered it may have passed.
    """

    def __init__(
        self,
        reactor: Reactor,
        find: Callable[[], Fingerprint],
        served: Fingerprint,
        interval_s: float,
        timeout_s: float,
        on_change: Callable[[Answer, bool], None],
        is_read: Callable[[], bool],
    ) -> None:
        """`find` is called in another process, and given up after `timeout_s`; it never is without an interval.

        While `is_read` says that the repository is read it is not called: to look at a store copies what has changed.

        `served` was found before what is served was read. `on_change` has the answer called when the change has ended,
        and hears whether it is tried once more.
        """
        self._find, self._interval_s, self._on_change, self._is_read = find, interval_s, on_change, is_read
        self._reader = SideReader[Fingerprint](reactor, "the repository's folders", timeout_s, (RepositoryError,))
        self._told = self._seen = served
        self._is_changing = False  # what was told last is not done yet
        self._pause_s, self._again_at_s = REFUSED_PAUSE_S, math.inf
        self._due_s = time.monotonic() + interval_s if interval_s else math.inf

    @property
    def busy(self) -> bool:
        """Whether it looks just now."""
        return self._reader.busy

    def look(self, now_s: float) -> None:
        """Begin to look, if it is time to; a repository that is another, and is not being written to, is told."""
        self._reader.look(now_s)
        if now_s < self._due_s or self.busy or self._is_changing or self._is_read():
            return
        self._due_s = now_s + self._interval_s
        self._reader.read(self._find, partial(self._on_seen, now_s))

    def close(self) -> None:
        """Look no more."""
        self._due_s = math.inf
        self._reader.close()

    def _on_seen(self, now_s: float, found: Fingerprint | Failure) -> None:
        if isinstance(found, Failure):
            log.error("repository not watched", reason=found.reason)
            return
        before, self._seen = self._seen, found
        if found != before:
            return
        again = found == self._told
        if again and now_s < self._again_at_s:
            return
        if not again:
            self._told, self._pause_s = found, REFUSED_PAUSE_S
        self._is_changing, self._again_at_s = True, math.inf
        self._on_change(self._on_ended, again)

    def _on_ended(self, refused: str, _changed: bool) -> None:
        self._is_changing = False
        if refused and self._pause_s <= REFUSED_PAUSE_MOST_S:
            self._again_at_s = time.monotonic() + self._pause_s
            self._pause_s *= 2


def fingerprint(place: RepositoryPlace, folder: Path) -> Fingerprint:
    """What is another once a model was changed, without hidden folders, which are still being written.

    `folder` is the place, or the copy of what lies there: in that a version that changed is a new folder, and files are
    shared with other copies, so their times tell nothing.
    """
    return frozenset(_describe(folder, depth=3 if isinstance(place, Path) else 2))


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
        yield entry.path, stat.st_ino, stat.st_size, stat.st_ctime_ns
        if depth > 1 and entry.is_dir():
            yield from _describe(Path(entry.path), depth - 1)
