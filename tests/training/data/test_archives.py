import io
import tarfile
import zipfile
from pathlib import Path

import pytest

from tests.training.folders import KINDS, pack
from training.data.archives import Tar, find_store
from training.errors import DataError

FILES = {"b/2.png": b"two" * 1000, "b/1.png": b"one", "a/3.png": b"", "readme.txt": b"text"}
ARCHIVES = KINDS[1:]


@pytest.mark.parametrize("kind", KINDS)
def test_files_are_listed_and_read_in_any_order(tmp_path, kind):
    store = find_store(pack(tmp_path, kind, FILES))
    entries = store.listing().entries
    assert {entry.name: entry.size for entry in entries} == {name: len(content) for name, content in FILES.items()}
    assert [entry.place for entry in entries] == sorted(entry.place for entry in entries)
    with store.opened() as read:
        for entry in [*entries, *reversed(entries)]:
            assert read(entry) == FILES[entry.name]


def test_folders_in_archives_are_no_files(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "1.png").write_bytes(b"one")
    with tarfile.open(tmp_path / "set.tar", "w") as archive:
        archive.add(tmp_path / "a", "./a")
    with zipfile.ZipFile(tmp_path / "set.zip", "w") as archive:
        archive.mkdir("a")
        archive.write(tmp_path / "a" / "1.png", "a/1.png")
    for name in ("set.tar", "set.zip"):
        assert [entry.parts for entry in find_store(tmp_path / name).listing().entries] == [("a", "1.png")]


@pytest.mark.parametrize("kind", ARCHIVES)
@pytest.mark.parametrize("name", ["../outside.png", "a/../../outside.png", "/etc/outside.png"])
def test_names_that_lead_out_are_refused(tmp_path, kind, name):
    path = pack(tmp_path, kind, {"a/1.png": b"one", name: b"two"})
    with pytest.raises(DataError, match=r"outside\.png', a name that leads out"):
        find_store(path).listing()


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE])
def test_links_and_devices_in_a_tar_are_refused(tmp_path, kind):
    with tarfile.open(tmp_path / "set.tar", "w") as archive:
        member = tarfile.TarInfo("a/1.png")
        member.type, member.linkname = kind, "/etc/passwd"
        archive.addfile(member)
    with pytest.raises(DataError, match=r"a/1\.png', which is no plain file"):
        Tar(tmp_path / "set.tar").listing()


@pytest.mark.parametrize("kind", ARCHIVES)
def test_damaged_archive_is_told(tmp_path, kind):
    path = pack(tmp_path, kind, {f"a/{index}.png": bytes(range(256)) * 9 for index in range(50)})
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(DataError, match=rf"{kind} cannot be read"):
        find_store(path).listing()


@pytest.mark.parametrize("kind", ARCHIVES)
def test_what_only_calls_itself_an_archive_is_told(tmp_path, kind):
    (tmp_path / kind).write_bytes(b"no archive" * 100)
    with pytest.raises(DataError, match="cannot be read"):
        find_store(tmp_path / kind).listing()


def test_zip_that_lies_about_a_size_gives_no_more_than_it_says(tmp_path):
    path = pack(tmp_path, "set.zip", {"a/1.png": b"x" * 5000})
    path.write_bytes(path.read_bytes().replace((5000).to_bytes(4, "little"), (50).to_bytes(4, "little")))
    store = find_store(path)
    (entry,) = store.listing().entries
    with store.opened() as read, pytest.raises(zipfile.BadZipFile):
        read(entry)


@pytest.mark.parametrize("name", ["absent", "absent.zip", "set.rar"])
def test_anything_else_is_no_store(tmp_path, name):
    (tmp_path / "set.rar").write_bytes(b"")
    assert find_store(tmp_path / name) is None


def test_linked_folders_are_followed(tmp_path):
    pack(tmp_path, "folder", FILES)
    (tmp_path / "links").mkdir()
    (tmp_path / "links" / "b").symlink_to(tmp_path / "folder" / "b")
    assert [entry.name for entry in find_store(tmp_path / "links").listing().entries] == ["b/1.png", "b/2.png"]


@pytest.mark.parametrize("target", ["..", "../..", "."])
def test_links_that_lead_back_are_passed_over(tmp_path, monkeypatch, target):
    folder = pack(tmp_path, "folder", FILES)
    (folder / "a" / "back").symlink_to(target, target_is_directory=True)
    monkeypatch.chdir(tmp_path)
    for path in (folder, Path("folder")):
        assert sorted(entry.name for entry in find_store(path).listing().entries) == sorted(FILES)


def test_folders_that_link_to_each_other_are_each_listed_once_more(tmp_path):
    folder = pack(tmp_path, "folder", {"a/1.png": b"one", "b/2.png": b"two"})
    (folder / "a" / "other").symlink_to(folder / "b")
    (folder / "b" / "other").symlink_to(folder / "a")
    names = [entry.name for entry in find_store(folder).listing().entries]
    assert names == ["a/1.png", "a/other/2.png", "b/2.png", "b/other/1.png"]


def test_link_back_behind_another_link_is_passed_over(tmp_path):
    pack(tmp_path, "folder", FILES)
    (tmp_path / "folder" / "b" / "all").symlink_to(tmp_path / "folder")
    (tmp_path / "links").mkdir()
    (tmp_path / "links" / "b").symlink_to(tmp_path / "folder" / "b")
    assert [entry.name for entry in find_store(tmp_path / "links").listing().entries] == ["b/1.png", "b/2.png"]


def test_nothing_is_unpacked(tmp_path, monkeypatch):
    path = pack(tmp_path, "set.tar.gz", FILES)
    monkeypatch.chdir(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    store = find_store(path)
    with store.opened() as read:
        assert len(io.BytesIO(b"".join(map(read, store.listing().entries))).getvalue()) == sum(map(len, FILES.values()))
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize(("system", "names"), [(0, ["a/1.png", "b/2.png"]), (3, ["a\\1.png", "b\\2.png"])])
def test_backslashes_of_a_zip_part_folders_where_windows_has_packed_it(tmp_path, system, names):
    """As .NET did before 4.6.1; on other systems they may be part of a name."""
    with zipfile.ZipFile(path := tmp_path / "set.zip", "w") as archive:
        for name in ("a\\1.png", "b\\2.png"):
            member = zipfile.ZipInfo(name)
            member.create_system = system
            archive.writestr(member, b"")
    assert [entry.name for entry in find_store(path).listing().entries] == names
