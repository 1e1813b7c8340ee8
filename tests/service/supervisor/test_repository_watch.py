"""A change of the repository is told once, when it is at rest, and again if it was refused."""

import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import pytest

from service.catalog.repository import RepositoryError
from service.pools.api_pool import Answer
from service.pools.reactor import Reactor
from service.supervisor import repository_watch as module
from service.supervisor.repository_watch import Fingerprint, RepositoryWatch, fingerprint
from tests.service.served import DEADLINE_S


class Watching:
    """A watch, and the loop that it looks in.

    What it tells ends at once, as `refused` says, or not yet if that is None.
    """

    def __init__(
        self,
        repository: Path,
        interval_s: float,
        refused: str | None = "",
        find: Callable[[Path], Fingerprint] = lambda repository: fingerprint(repository, repository),
    ) -> None:
        self._reactor, self._told = Reactor(), 0
        self.refused, self.open, self.again = refused, list[Answer](), list[bool]()
        self.is_read = False
        look, served = partial(find, repository), find(repository)
        self._watch = RepositoryWatch(
            self._reactor, look, served, interval_s, DEADLINE_S, self._on_change, lambda: self.is_read
        )

    def _on_change(self, answer: Answer, again: bool) -> None:
        self._told += 1
        self.again.append(again)
        if self.refused is None:
            self.open.append(answer)
        else:
            answer(self.refused, False)

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
    "rights": lambda path: (path / "model" / "1" / "model.onnx").chmod(0o600),
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


def test_it_looks_once_nobody_reads_the_repository(repository: Path) -> None:
    watch = Watching(repository, 1.0)
    (repository / "model" / "2").mkdir()
    watch.is_read = True
    assert not any(watch.look(1e9 + i) for i in range(3))
    watch.is_read = False
    assert [watch.look(1e9 + i) for i in (3, 4)] == [False, True]


def test_folders_under_a_temporary_name_are_passed_over(repository: Path) -> None:
    before = fingerprint(repository, repository)
    (repository / ".new").mkdir()
    assert fingerprint(repository, repository) == before


def test_what_was_refused_is_told_again_later_each_time(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now_s = 0.0
    monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: now_s))
    watch, told = Watching(repository, 30.0, "no memory"), []

    def look_until(end_s: float, every_s: float = 30) -> list[float]:
        """When it tells."""
        nonlocal now_s
        told.clear()
        while now_s < end_s:
            now_s += every_s
            if watch.look(now_s):
                told.append(now_s)
        return told

    (repository / "model" / "2").mkdir()
    assert look_until(1200) == [60, 90, 150, 270, 510, 990]
    assert look_until(9000, every_s=300) == []
    assert watch.again == [False, True, True, True, True, True]
    (repository / "model" / "3").mkdir()
    assert look_until(9210) == [9060, 9090, 9150], "another change begins anew"
    watch.refused = ""
    assert look_until(9300) == [9270]
    assert look_until(12000, every_s=300) == []


def test_nothing_is_told_before_the_last_change_has_ended(repository: Path) -> None:
    watch = Watching(repository, 1.0, refused=None)
    (repository / "model" / "2").mkdir()
    assert [watch.look(1e9 + i) for i in range(2)] == [False, True]
    (repository / "model" / "3").mkdir()
    assert not any(watch.look(1e9 + i) for i in range(2, 5))
    watch.open.pop()("", True)
    assert [watch.look(1e9 + i) for i in range(5, 8)] == [False, True, False]


def test_a_store_that_cannot_be_read_changes_nothing(repository: Path) -> None:
    def find(repository: Path) -> Fingerprint:
        if away.exists():
            raise RepositoryError("no permission")
        return fingerprint("s3://bucket/models", repository)

    away = repository / ".away"
    watch = Watching(repository, 1.0, find=find)
    away.touch()
    (repository / "model" / "2").mkdir()
    assert not any(watch.look(1e9 + i) for i in range(3))
    away.unlink()
    assert [watch.look(1e9 + i) for i in range(3, 6)] == [False, True, False]


def test_times_of_files_tell_nothing_of_a_copy(repository: Path) -> None:
    """Copies share them, and each copying touches them."""
    before = fingerprint("s3://bucket/models", repository)
    os.utime(repository / "model" / "1" / "model.onnx")
    assert fingerprint("s3://bucket/models", repository) == before
    (repository / "model" / "1").rename(repository / ".old")
    (repository / "model" / "1").mkdir()
    assert fingerprint("s3://bucket/models", repository) != before
