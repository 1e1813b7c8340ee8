"""What is copied of a store, and what is refused; the store is a real web server."""

import errno
import hashlib
import os
import shutil
from collections.abc import Iterable
from http import HTTPStatus
from pathlib import Path

import pytest

from models.artifact.artifact import read_artifact
from service.remote import mirror as module
from service.remote import store
from service.remote.cache import Cache
from service.remote.errors import NothingKept, StoreError, Unreachable
from service.remote.mirror import mirror
from tests.artifacts import make_artifact
from tests.service.remote.stores import RunningStore, WebHandler, files, web


def copy(url: str, tmp_path: Path) -> tuple[Path, list[str]]:
    """The copy, and what was left out."""
    cache = Cache(tmp_path / "cache", url)
    return cache.repository, mirror(url, cache)


def versions(repository: Path) -> list[str]:
    return sorted(str(path.relative_to(repository)) for path in repository.glob("*/*"))


def test_the_two_newest_versions_of_each_model_are_copied_byte_for_byte(
    website: RunningStore, released: Path, tmp_path: Path
) -> None:
    repository, problems = copy(website.url, tmp_path)
    assert problems == []
    assert versions(repository) == ["birds/1", "digits/10", "digits/2"]
    for file in [file for file in files(repository) if not file.name.startswith(".")]:
        assert (repository / file).read_bytes() == (released / file).read_bytes()
    assert read_artifact(repository / "digits" / "10").version == 10


def test_a_second_copying_reads_sums_and_no_model(website: RunningStore, tmp_path: Path) -> None:
    copy(website.url, tmp_path)
    assert website.requests["/digits/10/model.onnx"] > 0
    website.requests.clear()
    copy(website.url, tmp_path)
    assert website.requests["/digits/10/SHA256SUMS"] > 0
    assert not [path for path in website.requests if path.endswith(".onnx")]


def test_a_second_copying_leaves_what_is_there_as_it_is(website: RunningStore, released: Path, tmp_path: Path) -> None:
    (released / "digits" / "10" / "model.sig").write_text("a signature")
    repository, _ = copy(website.url, tmp_path)
    before = [(path, path.stat().st_ino) for path in sorted(repository.rglob("[!.]*"))]
    copy(website.url, tmp_path)
    assert [(path, path.stat().st_ino) for path in sorted(repository.rglob("[!.]*"))] == before


@pytest.mark.parametrize("reason", [errno.ENOSPC, errno.EDQUOT, errno.EROFS])
def test_a_cache_without_room_keeps_what_it_has(
    website: RunningStore, released: Path, tmp_path: Path, reason: int
) -> None:
    class FullCache(Cache):
        def add(self, _chunks: Iterable[bytes]) -> str:
            raise OSError(reason, os.strerror(reason))

    repository, _ = copy(website.url, tmp_path)
    for version in (11, 12):
        make_artifact(released, "digits", version, ballast_bytes=version)
    with pytest.raises(NothingKept, match=r"digits/12/model\.onnx cannot be kept: .*make room"):
        mirror(website.url, FullCache(tmp_path / "cache", website.url))
    assert versions(repository) == ["birds/1", "digits/10", "digits/2"]


@pytest.mark.parametrize(
    ("below", "copied"),
    [("/digits", ["digits/10", "digits/2"]), ("/digits/1", ["digits/1"]), ("/birds/1", ["birds/1"])],
)
def test_a_url_may_name_one_model_or_one_version(
    website: RunningStore, tmp_path: Path, below: str, copied: list[str]
) -> None:
    repository, problems = copy(website.url + below, tmp_path)
    assert versions(repository) == copied
    assert problems == []


def test_one_version_is_copied_from_a_server_that_lists_nothing(website: RunningStore, tmp_path: Path) -> None:
    website.refusals["/"] = 403
    assert versions(copy(f"{website.url}/digits/2", tmp_path)[0]) == ["digits/2"]


def test_only_the_files_of_the_format_are_copied(website: RunningStore, released: Path, tmp_path: Path) -> None:
    for name in ("README.md", "model.pkl", "optimizer.pt"):
        (released / "digits" / "10" / name).write_text("not asked for")
    (released / "README.md").write_text("of the repository")
    (released / "digits" / "10" / "model.sig").write_text("a signature")
    repository, problems = copy(website.url, tmp_path)
    assert problems == []
    assert sorted(path.name for path in (repository / "digits" / "10").iterdir()) == [
        "SHA256SUMS",
        "model.onnx",
        "model.sig",
    ]
    assert not [path for path in website.requests if path.endswith((".md", ".pkl", ".pt"))]


@pytest.mark.parametrize(
    ("sums", "says"),
    [
        ("{digest}  ../../../birds/1/model.onnx\n", "line 1 is not"),
        ("{digest}  model.onnx\n{digest}  ..\n", "lists ..: nothing is copied but"),
        ("{digest}  model.onnx\n{digest}  weights.pkl\n", "lists weights.pkl: nothing is copied but"),
        ("{other}  model.onnx\n", "SHA256SUMS says"),
        ("not sums at all\n", "line 1 is not"),
        ("", "lists no model.onnx"),
        ("x" * 100_000, "larger than 65536 bytes"),
    ],
    ids=["traversal", "folder above", "stranger", "another digest", "no sums", "empty", "endless"],
)
def test_a_version_whose_sums_are_wrong_is_left_out_and_an_older_one_is_there(
    website: RunningStore, released: Path, tmp_path: Path, sums: str, says: str
) -> None:
    digest = hashlib.sha256((released / "digits" / "10" / "model.onnx").read_bytes()).hexdigest()
    (released / "digits" / "10" / "SHA256SUMS").write_text(sums.format(digest=digest, other="0" * 64))
    repository, (problem,) = copy(website.url, tmp_path)
    assert problem.startswith("digits/10 is not copied: ")
    assert says in problem
    assert versions(repository) == ["birds/1", "digits/2"]


def test_a_file_beyond_its_bound_is_left_out(
    website: RunningStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "LARGEST_FILE", 1000)
    with pytest.raises(StoreError) as error:  # for nothing is left
        copy(f"{website.url}/digits", tmp_path)
    assert str(error.value).count("model.onnx is larger than 1000 bytes") == 2


def test_folders_that_are_no_models_are_told_and_links_elsewhere_are_not_followed(
    website: RunningStore, released: Path, tmp_path: Path
) -> None:
    (released / "notes").mkdir()
    (released / ".git").mkdir()
    make_artifact(released / "sub", "dash").parent.rename(released / "sub" / "-dash")
    (released / "sub" / "index.html").write_text(
        '<a href="/birds/">elsewhere</a> <a href="../birds/">above</a> <a href="%2e%2e/birds/">above</a> '
        '<a href="-dash/">-dash</a>'
    )
    repository, problems = copy(website.url, tmp_path)
    assert versions(repository) == ["birds/1", "digits/10", "digits/2"]
    assert [problem.split()[0] for problem in problems] == ["'notes'", "'sub'"]
    with pytest.raises(StoreError, match=r"no models in .*expected <model>/<version>/model.onnx.*'-dash' is no model"):
        copy(f"{website.url}/sub", tmp_path)


def test_what_the_store_has_no_longer_goes_and_what_is_new_comes(
    website: RunningStore, released: Path, tmp_path: Path
) -> None:
    copy(website.url, tmp_path)
    shutil.rmtree(released / "birds")
    make_artifact(released, "digits", 11)
    repository, _ = copy(website.url, tmp_path)
    assert versions(repository) == ["digits/10", "digits/11"]


def test_a_version_that_cannot_be_had_any_more_stays_as_it_was(website: RunningStore, tmp_path: Path) -> None:
    copy(website.url, tmp_path)
    website.refusals["/digits/10/SHA256SUMS"] = 403
    repository, (problem,) = copy(website.url, tmp_path)
    assert "no permission to read" in problem
    assert read_artifact(repository / "digits" / "10").version == 10


def test_a_store_that_fails_meanwhile_fails_all_of_it(website: RunningStore, tmp_path: Path) -> None:
    website.refusals["/digits/10/model.onnx"] = 503
    with pytest.raises(Unreachable, match=r"digits/10/model\.onnx cannot be reached"):
        copy(website.url, tmp_path)
    assert website.requests["/digits/10/model.onnx"] >= 3, "it was tried again"
    assert Cache(tmp_path / "cache", website.url).complete_since() is None


def test_the_copies_of_two_urls_share_their_files(website: RunningStore, tmp_path: Path) -> None:
    one, _ = copy(website.url, tmp_path)
    website.requests.clear()
    other, _ = copy(f"{website.url}/birds", tmp_path)
    assert (one / "birds/1/model.onnx").samefile(other / "birds/1/model.onnx")
    assert not [path for path in website.requests if path.endswith(".onnx")]


def test_too_many_folders_are_refused(released: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_MODELS", 1)
    with web(released) as store, pytest.raises(StoreError, match="has 2 folders, more than 1"):
        copy(store.url, tmp_path)


def test_a_server_that_sends_less_than_a_file_has_is_not_asked_for_every_bit(
    website: RunningStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer = WebHandler.answer

    def answer_in_part(handler: WebHandler, path: str) -> None:
        if handler.command == "HEAD" or not path.endswith(".onnx"):
            answer(handler, path)
            return
        handler.send_response(HTTPStatus.OK)
        handler.send_header("Content-Length", "4")
        handler.end_headers()
        handler.wfile.write(b"page")

    monkeypatch.setattr(WebHandler, "answer", answer_in_part)
    monkeypatch.setattr(store, "RETRY_WAITS_S", ())
    with pytest.raises(Unreachable, match="it ended after 4 of its"):
        copy(f"{website.url}/digits/10", tmp_path)
    assert website.requests["/digits/10/model.onnx"] == 2  # one for its size, one for its content
