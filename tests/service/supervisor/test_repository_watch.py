"""A change of the repository is told once, when it is at rest."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from service.repository_place import RepositoryPlace
from service.supervisor.reactor import Reactor
from service.supervisor.repository_watch import RepositoryWatch, fingerprint
from tests.service.served import DEADLINE_S


class Watching:
    """A watch, and the loop that it looks in."""

    def __init__(self, repository: RepositoryPlace, interval_s: float) -> None:
        self._reactor, self._told = Reactor(), 0
        self._watch = RepositoryWatch(self._reactor, repository, interval_s, DEADLINE_S, self._count)

    def _count(self) -> None:
        self._told += 1

    def look(self, now_s: float) -> bool:
        """Whether a change is told after a look at this time."""
        before = self._told
        self._watch.look(now_s)
        while self._watch.busy:
            self._reactor.wait(DEADLINE_S)
        return self._told > before


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    (tmp_path / "model" / "1").mkdir(parents=True)
    (tmp_path / "model" / "1" / "model.onnx").write_bytes(b"one")
    return tmp_path


CHANGES: dict[str, Callable[[Path], object]] = {
    "a version": lambda path: (path / "model" / "2").mkdir(),
    "a file": lambda path: (path / "model" / "1" / "SHA256SUMS").touch(),
    "content": lambda path: (path / "model" / "1" / "model.onnx").write_bytes(b"more"),
    "a time": lambda path: os.utime(path / "model" / "1" / "model.onnx", ns=(1, 1)),
    "a model": lambda path: (path / "other").mkdir(),
    "a name": lambda path: (path / "model" / "1").rename(path / "model" / "3"),
    "a place": lambda path: (path / "model").rename(path.parent / "elsewhere"),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_whatever_changes_is_told_once(repository: Path, change: Callable[[Path], object]) -> None:
    watch = Watching(repository, 1.0)
    now_s = 1e9
    assert not watch.look(now_s)
    change(repository)
    told = [watch.look(now_s + i) for i in range(1, 5)]
    assert told == [False, True, False, False]


def test_what_is_still_being_written_is_not_told(repository: Path) -> None:
    watch, file = Watching(repository, 1.0), repository / "model" / "1" / "model.onnx"
    for size in range(5):
        file.write_bytes(bytes(size))
        assert not watch.look(1e9 + size)
    assert watch.look(1e9 + 5)


def test_it_looks_no_more_often_than_it_is_told(repository: Path) -> None:
    watch = Watching(repository, 10.0)
    watch.look(1e9)
    (repository / "model" / "2").mkdir()
    assert [watch.look(1e9 + s) for s in (1, 9, 10, 11, 19, 20)] == [False] * 5 + [True]


def test_folders_under_a_temporary_name_are_passed_over(repository: Path) -> None:
    before = fingerprint(repository)
    (repository / ".new").mkdir()
    assert fingerprint(repository) == before


def test_a_store_may_have_changed_at_any_time() -> None:
    watch = Watching("s3://bucket/models", 1.0)
    assert [watch.look(1e9 + s) for s in (0, 0.5, 1)] == [True, False, True]
