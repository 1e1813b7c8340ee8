"""The cache: whole files by their digests, folders of links to them, and damage that is found."""

import os
import time
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

import pytest

from service.remote.cache import UNUSED_AFTER_S, Cache


@pytest.fixture
def cache(tmp_path: Path) -> Iterator[Cache]:
    cache = Cache(tmp_path, "s3://models/digits")
    with cache.locked():
        yield cache


def blob(tmp_path: Path, digest: str) -> Path:
    return tmp_path / "blobs" / digest


def make_old(path: Path) -> None:
    long_ago = time.time() - 2 * UNUSED_AFTER_S
    os.utime(path, (long_ago, long_ago))


def test_a_file_is_kept_by_its_digest_and_cannot_be_written(cache: Cache, tmp_path: Path) -> None:
    digest = cache.add([b"one ", b"model"])
    assert digest == sha256(b"one model").hexdigest()
    assert blob(tmp_path, digest).read_bytes() == b"one model"
    assert blob(tmp_path, digest).stat().st_mode & 0o777 == 0o444
    assert cache.has(digest)
    assert not cache.has("0" * 64)


def test_a_damaged_file_is_found_and_its_links_are_made_again(cache: Cache, tmp_path: Path) -> None:
    digest = cache.add([b"model"])
    cache.link("digits", "1", {"model.onnx": digest})
    linked = cache.repository / "digits" / "1" / "model.onnx"
    linked.chmod(0o644)
    linked.write_bytes(b"damaged")
    assert not cache.has(digest)
    assert not blob(tmp_path, digest).exists()
    cache.add([b"model"])
    cache.link("digits", "1", {"model.onnx": digest})
    assert linked.read_bytes() == b"model"


def test_a_file_that_breaks_off_leaves_nothing(cache: Cache, tmp_path: Path) -> None:
    def breaks_off() -> Iterator[bytes]:
        yield b"half"
        raise ConnectionError

    with pytest.raises(ConnectionError):
        cache.add(breaks_off())
    assert list((tmp_path / "blobs").iterdir()) == []


def test_a_version_is_what_was_linked_last(cache: Cache) -> None:
    one, other, signature = (cache.add([data]) for data in (b"one", b"other", b"signature"))
    cache.link("digits", "1", {"model.onnx": one, "model.sig": signature})
    cache.link("digits", "1", {"model.onnx": other})
    folder = cache.repository / "digits" / "1"
    assert [path.name for path in folder.iterdir()] == ["model.onnx"]
    assert (folder / "model.onnx").read_bytes() == b"other"


def test_a_folder_that_is_right_stays_the_same(cache: Cache) -> None:
    digest = cache.add([b"one"])
    cache.link("digits", "1", {"model.onnx": digest})
    before = (cache.repository / "digits" / "1").stat().st_ino
    cache.link("digits", "1", {"model.onnx": digest})
    assert (cache.repository / "digits" / "1").stat().st_ino == before


def test_it_is_whole_once_all_is_there(cache: Cache) -> None:
    assert cache.complete_since() is None
    cache.keep_only([])
    assert str(cache.complete_since()).startswith("20")


def test_what_nobody_needs_goes_after_a_day(cache: Cache, tmp_path: Path) -> None:
    needed, new, unused = (cache.add([data]) for data in (b"needed", b"new", b"unused"))
    cache.link("digits", "1", {"model.onnx": needed})
    cache.link("birds", "1", {"model.onnx": unused})
    left = tmp_path / "blobs" / ".left-by-a-killed-process"
    left.mkdir()
    (left / "blob").write_text("half")
    for path in (blob(tmp_path, needed), blob(tmp_path, unused), left):
        make_old(path)
    cache.keep_only([("digits", "1")])
    assert {path.name for path in (tmp_path / "blobs").iterdir()} == {needed, new}
    assert [path.name for path in cache.repository.iterdir() if path.is_dir()] == ["digits"]


def test_urls_that_look_alike_have_folders_of_their_own(tmp_path: Path) -> None:
    one, other = Cache(tmp_path, "s3://models/a-b"), Cache(tmp_path, "s3://models/a/b")
    assert one.repository != other.repository
    assert one.repository.parent == other.repository.parent
    assert "s3-models-a-b" in one.repository.name
