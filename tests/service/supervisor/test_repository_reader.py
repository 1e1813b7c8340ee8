"""The repository is read in another process: what happens to that one is told, and harms no other."""

import gc
import os
import resource
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from models.artifact.artifact import Artifact, read_artifact
from service.catalog.catalog import Catalog
from service.catalog.repository import RepositoryError
from service.errors import NotFound
from service.ipc.shared_memory import SharedObject
from service.pools.model_set import ModelSet
from service.pools.reactor import Reactor
from service.supervisor.model_source import Found
from service.supervisor.repository_reader import RepositoryReader
from tests.service.served import DEADLINE_S


def find(artifact: Artifact) -> Found:
    return Found(Catalog((artifact,), {("other", "1"): "why"}, 0), {})


def fail(error: Exception) -> Found:
    raise error


def end() -> Found:
    os._exit(7)


def hang() -> Found:
    time.sleep(DEADLINE_S)
    raise AssertionError


def read(find: Callable[[], Found], timeout_s: float = DEADLINE_S, reactor: Reactor | None = None) -> ModelSet | str:
    reactor, delivered = reactor or Reactor(), list[ModelSet | str]()
    reader = RepositoryReader(reactor, timeout_s)
    reader.read(find, delivered.append)
    while not delivered:
        reactor.wait(0.01)
        reader.look(time.monotonic())
    (result,) = delivered
    return result


def descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def test_models_come_with_their_files_and_leave_no_descriptor(repository: Path) -> None:
    artifact = read_artifact(repository / "plain" / "2")
    gc.collect()  # what other tests have left closes its descriptors now, not meanwhile
    before, reactor = descriptors(), Reactor()
    models = read(partial(find, artifact), reactor=reactor)
    assert isinstance(models, ModelSet)
    assert tuple(models.files) == (artifact,)
    assert models.catalog == find(artifact).catalog.without_files()
    models.close()
    models.close()
    assert descriptors() == before + 1  # of the reactor


@pytest.mark.parametrize(
    ("find", "timeout_s", "says"),
    [
        (partial(fail, RepositoryError("nothing there")), DEADLINE_S, "nothing there"),
        (partial(fail, NotFound("no such model")), DEADLINE_S, "no such model"),
        (end, DEADLINE_S, "the process that reads the repository ended with exit code 7"),
        (hang, 0.1, "the process that reads the repository was not done within 0.1 s"),
    ],
    ids=["refused", "not found", "dead", "late"],
)
def test_why_there_are_none_is_told(find: Callable[[], Found], timeout_s: float, says: str) -> None:
    assert read(find, timeout_s) == says


def test_without_descriptors_it_says_so_and_loses_none() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    reader, delivered = RepositoryReader(Reactor(), DEADLINE_S), list[ModelSet | str]()
    gc.collect()  # what other tests have left closes its descriptors now, not meanwhile
    before = descriptors()
    free = next(fd for fd in range(soft) if not Path(f"/proc/self/fd/{fd}").exists())
    for more in range(3):  # two for what is found, one that tells of the process's end
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (free + more, hard))
            reader.read(hang, delivered.append)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        told = delivered.pop()
        assert isinstance(told, str)
        assert told.startswith("the repository cannot be read now: [Errno 24] Too many open files")
    assert descriptors() == before


def test_what_is_shared_is_read_by_whoever_has_it_and_closed_once() -> None:
    shared = SharedObject[list[int]]()
    shared.store([1, 2])
    assert shared.load() == shared.load() == [1, 2]
    shared.close()
    shared.close()
