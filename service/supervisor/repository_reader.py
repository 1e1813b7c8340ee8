"""Reads the model repository while the server runs, in a process of its own."""

from collections.abc import Callable
from functools import partial

from models.artifact.artifact import Artifact
from service.catalog.repository import RepositoryError
from service.errors import NotFound
from service.ipc.shared_memory import SharedSequence
from service.pools.model_set import ModelSet
from service.pools.reactor import Reactor
from service.supervisor.model_source import Found
from service.supervisor.side_reader import Failure, SideReader


class RepositoryReader:
    """One reading at a time, each in so many seconds at most."""

    def __init__(self, reactor: Reactor, timeout_s: float) -> None:
        self._reader = SideReader[Found](reactor, "the repository", timeout_s, (RepositoryError, NotFound))

    @property
    def busy(self) -> bool:
        """Whether it reads just now."""
        return self._reader.busy

    def read(self, find: Callable[[], Found], deliver: Callable[[ModelSet | str], None]) -> None:
        """Call `find` there; `deliver` gets the models that it found, or why there are none."""
        try:
            files = SharedSequence[Artifact]()
        except OSError as error:
            deliver(f"the repository cannot be read now: {error}")
        else:
            self._reader.read(partial(_find, find, files), partial(self._on_read, files, deliver))

    def look(self, now_s: float) -> None:
        """End a reading that takes too long."""
        self._reader.look(now_s)

    def close(self) -> None:
        """End the reading, if there is one."""
        self._reader.close()

    def _on_read(
        self, files: SharedSequence[Artifact], deliver: Callable[[ModelSet | str], None], found: Found | Failure
    ) -> None:
        if isinstance(found, Failure):
            files.close()
            deliver(found.reason)
        else:
            deliver(ModelSet(found.catalog, files, found.choices))


def _find(find: Callable[[], Found], files: SharedSequence[Artifact]) -> Found:
    """What was found, without the models' files, which are stored."""
    found = find()
    files.store(found.catalog.artifacts)
    return found._replace(catalog=found.catalog.without_files())
