"""A repository of any store becomes a folder, and what cannot be had is told; the stores are real servers."""

import json
import shutil
import subprocess
import sys
import threading
from functools import partial
from pathlib import Path

import pytest

from service.catalog.repository import Repository
from service.remote.cache import Cache
from service.remote.errors import AccessDenied, NothingThere, StoreError, Unreachable
from service.remote.fetch import default_cache_dir, fetch
from tests.artifacts import make_artifact
from tests.service.remote.stores import KEYS, STORES, RunningStore, WebHandler, files, s3, serving, web

PATIENCE_S = 120.0


@pytest.fixture
def small(tmp_path: Path) -> Path:
    """A repository of one model."""
    make_artifact(tmp_path / "small", "digits", 3)
    return tmp_path / "small"


def set_up(monkeypatch: pytest.MonkeyPatch, store: RunningStore) -> None:
    for name, value in store.settings.items():
        monkeypatch.setenv(name, value)


def test_a_folder_is_itself(tmp_path: Path) -> None:
    assert fetch(tmp_path, None, PATIENCE_S).folder == tmp_path


@pytest.mark.parametrize("name", STORES)
def test_a_copy_is_read_as_the_original(
    small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    with STORES[name](small) as store:
        set_up(monkeypatch, store)
        copied = fetch(store.url, tmp_path / "cache", PATIENCE_S)
    assert copied.problems == ()
    assert Repository(copied.folder).read(None).artifacts == Repository(small).read(None).artifacts


def test_the_last_whole_copy_is_taken_when_the_store_is_gone(small: Path, tmp_path: Path) -> None:
    with web(small) as store:
        copied = fetch(store.url, tmp_path / "cache", PATIENCE_S)
    again = fetch(store.url, tmp_path / "cache", PATIENCE_S)
    assert again.folder == copied.folder
    (problem,) = again.problems
    assert problem.startswith("the copy of 20")
    assert f"is served: {store.url} cannot be reached" in problem


def test_the_errors_of_s3_are_told_apart(small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = tmp_path / "cache"
    with s3(small) as store:
        set_up(monkeypatch, store)
        with pytest.raises(NothingThere, match=r"^s3://nowhere/a is not there \(The specified bucket does not exist\)"):
            fetch("s3://nowhere/a", cache, PATIENCE_S)
        for name in KEYS:
            monkeypatch.delenv(name)
        monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
        with pytest.raises(
            AccessDenied, match=r"no permission to read s3://models/released .*: give this process cred"
        ):
            fetch(store.url, cache, PATIENCE_S)
        monkeypatch.setenv("FSSPEC_S3_ANON", "true")
        with pytest.raises(StoreError, match=r"digits/3 is not copied: no permission .*/SHA256SUMS .*Forbidden\)"):
            fetch(store.url, cache, PATIENCE_S)
        assert fetch("s3://models/public", cache, PATIENCE_S).problems == ()


def test_the_errors_of_the_web_are_told_apart(small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = tmp_path / "cache"
    with web(small) as store:
        with pytest.raises(NothingThere, match=r"/nowhere is not there: check"):
            fetch(f"{store.url}/nowhere", cache, PATIENCE_S)
        store.login = "reader", "secret"
        with pytest.raises(AccessDenied, match=f"no permission to read {store.url} "):
            fetch(store.url, cache, PATIENCE_S)
        netrc = tmp_path / "netrc"
        netrc.write_text("machine 127.0.0.1 login reader password secret")
        netrc.chmod(0o600)
        monkeypatch.setenv("NETRC", str(netrc))
        assert fetch(store.url, cache, PATIENCE_S).problems == ()
    cache = tmp_path / "other"
    with pytest.raises(Unreachable, match=f"{store.url} cannot be reached .*: check the network and the store"):
        fetch(store.url, cache, PATIENCE_S)


def test_a_repository_that_the_hub_does_not_have_is_told(
    small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with STORES["hub"](small) as store:
        set_up(monkeypatch, store)
        with pytest.raises(NothingThere, match="hf://team/other is not there"):
            fetch("hf://team/other", tmp_path, PATIENCE_S)


def test_a_revision_of_the_hub_may_be_named(small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with STORES["hub"](small) as store:
        set_up(monkeypatch, store)
        copied = fetch("hf://team/models@v1.0/digits", tmp_path, PATIENCE_S)
    assert (copied.folder / "digits" / "3" / "model.onnx").is_file()
    assert [path for path in store.requests if "/resolve/v1.0/" in path]


def test_redirects_without_end_are_told(tmp_path: Path) -> None:
    class Circle(WebHandler):
        def answer(self, path: str) -> None:
            self.send_response(302)
            self.send_header("Location", path)
            self.end_headers()

    circle = partial(Circle, RunningStore(""), directory=str(tmp_path))
    told = pytest.raises(Unreachable, match=r"cannot be reached \(TooManyRedirects\)")
    with serving(circle) as address, told:
        fetch(address, tmp_path / "cache", PATIENCE_S)


def test_the_signature_of_an_address_that_a_store_sends_on_to_is_not_told(tmp_path: Path) -> None:
    class Signing(WebHandler):
        def answer(self, path: str) -> None:
            self.send_response(302)
            self.send_header("Location", f"http://bob:secret@{self.headers['Host']}/kept{path}?by=bob&signature=secret")
            self.send_header("Content-Length", "0")
            self.end_headers()

    signing = partial(Signing, RunningStore("", refusals={"kept/": 403}), directory=str(tmp_path))
    with serving(signing) as address, pytest.raises(AccessDenied) as error:
        fetch(address, tmp_path / "cache", PATIENCE_S)
    assert f"url='{address}/kept/'" in str(error.value)
    assert "secret" not in str(error.value)


PAGE = "<!DOCTYPE html><html><body>Who are you?</body></html>"
MOVED = "<Error><Code>PermanentRedirect</Code><Endpoint>models.s3.example.org</Endpoint></Error>"
DENIED = json.dumps({"error": {"message": "bob has no storage.objects.list access"}})
GATED = "Access to team/models is restricted: ask for it."
PLACES = {
    "s3://models/a": "AWS_ENDPOINT_URL",
    "gs://models/a": "STORAGE_EMULATOR_HOST",
    "hf://team/models": "HF_ENDPOINT",
}


@pytest.mark.parametrize(
    ("url", "status", "text", "kind", "says"),
    [
        ("s3://models/a", 200, PAGE, Unreachable, "it answers 200 with text/html, which is no answer of S3"),
        ("s3://models/a", 301, MOVED, Unreachable, "it answers 301 and names no region: set AWS_ENDPOINT_URL"),
        ("s3://models/a", 301, "", Unreachable, "it answers 301 and names no region: set AWS_ENDPOINT_URL"),
        ("gs://models/a", 200, PAGE, Unreachable, "it answers what is no JSON, '<!DOCTYPE html>"),
        ("gs://models/a", 200, "{}", Unreachable, "its answer is none of such a store"),
        ("gs://models/a", 403, DENIED, AccessDenied, "bob has no storage.objects.list access"),
        ("hf://team/models", 200, PAGE, Unreachable, "it answers what is no JSON, '<!DOCTYPE html>"),
        ("hf://team/models", 403, GATED, AccessDenied, "Access to team/models is restricted: ask for it."),
    ],
)
def test_what_is_no_answer_of_such_a_store_is_told_and_a_denial_with_its_reason(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    url: str,
    status: int,
    text: str,
    kind: type[StoreError],
    says: str,
) -> None:
    class Same(WebHandler):
        def answer(self, _path: str) -> None:
            self.send_response(status)
            self.send_header("Content-Type", "text/html")
            self.send_header("Content-Length", str(len(text)))
            if text == GATED:
                self.send_header("X-Error-Code", "GatedRepo")
                self.send_header("X-Error-Message", text)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(text.encode())

    with serving(partial(Same, RunningStore(""), directory=str(tmp_path))) as address:
        set_up(monkeypatch, RunningStore(url, KEYS | {"FSSPEC_GS_TOKEN": "anon", PLACES[url]: address}))
        with pytest.raises(kind) as error:
            fetch(url, tmp_path / "cache", PATIENCE_S)
    assert url in str(error.value)
    assert says in str(error.value)


def test_a_store_that_does_not_answer_in_time_is_not_waited_for(tmp_path: Path) -> None:
    """The copying process is ended; nothing of it holds the repository's lock afterwards."""
    asked, answer = threading.Event(), threading.Event()
    with web(tmp_path) as store:

        class Waiting(dict[str, int]):
            def items(self):  # asked for with each request
                asked.set()
                answer.wait(PATIENCE_S)
                return {}.items()

        store.refusals = Waiting()
        try:
            with pytest.raises(Unreachable, match=r"was not copied within 5 s \(--fetch-timeout\)"):
                fetch(store.url, tmp_path / "cache", 5.0)
        finally:
            answer.set()


def test_a_cache_that_cannot_be_written_is_told(small: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    with web(small) as store, pytest.raises(StoreError, match=r"file/blobs cannot be written: .*give another --cache"):
        fetch(store.url, tmp_path / "file", PATIENCE_S)


def may_mount(folder: Path) -> bool:
    """Whether folders can be mounted here: root of a container seldom may."""
    words = ["unshare", "--mount", "mount", "--bind", folder, folder]
    return bool(shutil.which("unshare")) and subprocess.run(words, stderr=subprocess.DEVNULL).returncode == 0


def test_a_cache_on_a_read_only_file_system_is_told_as_that(small: Path, tmp_path: Path) -> None:
    if not may_mount(tmp_path):
        pytest.skip("nothing can be mounted here")
    disk = tmp_path / "disk"
    (disk / "blobs").mkdir(parents=True)
    program = f"""
mount --bind {disk} {disk} && mount -o remount,ro,bind {disk} && exec {sys.executable} -m service check \
    "$0" --cache-dir {disk}
"""
    with web(small) as store:
        (disk / "repositories" / Cache(disk, store.url).repository.name).mkdir(parents=True)
        done = subprocess.run(["unshare", "--mount", "sh", "-c", program, store.url], capture_output=True, text=True)
    assert f"{disk}/blobs cannot be written: Read-only file system; make room" in " ".join(done.stderr.split())


def test_the_last_whole_copy_is_taken_when_the_cache_cannot_be_written(small: Path, tmp_path: Path) -> None:
    blobs = tmp_path / "cache" / "blobs"
    with web(small) as store:
        copied = fetch(store.url, tmp_path / "cache", PATIENCE_S)
        blobs.rename(tmp_path / "elsewhere")
        blobs.write_text("no folder")
        again = fetch(store.url, tmp_path / "cache", PATIENCE_S)
    assert again.folder == copied.folder
    (problem,) = again.problems
    assert problem.startswith("the copy of 20")
    assert f"is served: {blobs} cannot be written: File exists; make room" in problem


def test_two_processes_that_copy_at_once_share_the_work(small: Path, tmp_path: Path) -> None:
    folders: list[Path] = []
    with web(small) as store:
        threads = [
            threading.Thread(target=lambda: folders.append(fetch(store.url, tmp_path / "cache", PATIENCE_S).folder))
            for _ in range(2)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        asked = store.requests["/digits/3/model.onnx"]
        store.requests.clear()
        fetch(store.url, tmp_path / "other", PATIENCE_S)
        assert asked == store.requests["/digits/3/model.onnx"], "as often as one alone"
    assert folders[0] == folders[1]
    assert {file.name for file in files(folders[0])} == {".complete", "SHA256SUMS", "model.onnx"}


def test_the_cache_is_where_xdg_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", "/var/cache")
    assert default_cache_dir() == Path("/var/cache/resnet-serve")
    monkeypatch.setenv("XDG_CACHE_HOME", "relative, which counts as none")
    monkeypatch.setenv("HOME", "/home/someone")
    assert default_cache_dir() == Path("/home/someone/.cache/resnet-serve")
