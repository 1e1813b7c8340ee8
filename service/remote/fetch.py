"""A repository as a folder of this machine, wherever it is: copied in a process of its own, within a deadline.

The libraries of the stores bring threads, event loops and tens of megabytes, which have no place in a process that
forks and serves; and a process can be ended when its time is up.
"""

import logging
import os
import warnings
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path

from service.catalog.repository_place import RepositoryPlace
from service.process.side_process import side_process
from service.remote.cache import Cache
from service.remote.errors import NothingKept, StoreError, Unreachable
from service.remote.mirror import mirror

_QUIET = {
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT": "false",  # else gRPC is tried first, with words of its own on standard error
}
"""What the libraries are told, unless the administrator tells them otherwise."""


@dataclass(frozen=True, slots=True)
class LocalRepository:
    """A folder to read models from.

    Attributes:
        problems: what could not be had, in sentences; it is served without that, or as it was before.

    """

    folder: Path
    problems: tuple[str, ...] = ()


def fetch(place: RepositoryPlace, cache_dir: Path | None, seconds: float) -> LocalRepository:
    """The folder itself, or the copy of what a URL names; RepositoryError if there is none.

    If a store cannot be reached, or the cache not be written, the last whole copy is taken, and that is a problem. It
    may be called again, for what has changed; only that is copied.
    """
    if isinstance(place, Path):
        return LocalRepository(place)
    cache = Cache(cache_dir or default_cache_dir(), place)
    try:
        return LocalRepository(cache.repository, tuple(_mirror_apart(place, cache, seconds)))
    except (Unreachable, NothingKept) as error:
        if copied := cache.complete_since():
            return LocalRepository(cache.repository, (f"the copy of {copied} is served: {error}",))
        raise


def default_cache_dir() -> Path:
    """By the XDG Base Directory Specification; StoreError without a home."""
    base = os.environ.get("XDG_CACHE_HOME", "")
    try:
        return (Path(base) if base.startswith("/") else Path.home() / ".cache") / "resnet-serve"
    except RuntimeError as error:
        raise StoreError("there is no home directory for the copies of models: give --cache-dir") from error


def _mirror_apart(url: str, cache: Cache, seconds: float) -> list[str]:
    """`mirror`, in a process of its own; Unreachable if it takes too long."""
    with side_process("spawn", _tell, url, cache) as (process, reader):
        if not reader.poll(seconds):
            raise Unreachable(f"{url} was not copied within {seconds:g} s (--fetch-timeout)")
        try:
            found: list[str] | StoreError = reader.recv()
        except EOFError:
            process.join(seconds)
            raise StoreError(f"the process that copied {url} ended with {process.exitcode}") from None
    if isinstance(found, StoreError):
        raise found
    return found


def _tell(writer: Connection, url: str, cache: Cache) -> None:
    """Send what was left out, or the StoreError; the libraries' own words would break the log's format."""
    os.environ.update(_QUIET | os.environ)
    logging.disable()
    warnings.simplefilter("ignore")
    try:
        writer.send(mirror(url, cache))
    except StoreError as error:
        writer.send(error)
    except OSError as error:
        writer.send(
            NothingKept(
                f"{error.filename or cache.repository} cannot be written: {error.strerror}; make room, or give another "
                "--cache-dir"
            )
        )
