"""Files in a folder, a tar or a zip archive: listed once, read in their order, never unpacked onto the disk."""

import contextlib
import errno
import gzip
import lzma
import os
import tarfile
import unicodedata
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import BinaryIO, Protocol, TypeVar

from training.errors import DataError

READ_ERRORS = (OSError, EOFError, RuntimeError, zipfile.BadZipFile, zlib.error, lzma.LZMAError)
"""Errors of reading one file that is gone, damaged, encrypted, or packed by an unknown method."""

ARCHIVES = (".tar", ".tar.gz", ".tgz", ".zip")
"""Endings of the names of archives."""

_ZIP_UTF8 = 0x800
"""Flag of a zip archive's member whose name is in UTF-8."""

_WINDOWS = (0, 10)
"""Systems that a zip archive's member may come from: those with FAT and NTFS."""

_T = TypeVar("_T")

_MOST_FILES = 20_000_000
"""Files in a folder or archive: their names take some gigabytes, and a longer listing is an attack or a mistake."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A file of a store: its name as stored, its size in bytes, and its place; reading by rising places is fast.

    In a tar the place is the offset of the content in bytes, elsewhere the file's number.
    """

    name: str
    size: int
    place: int

    @property
    def parts(self) -> tuple[str, ...]:
        """The folders that it lies in, and its own name, as they read."""
        return tuple(map(readable, PurePosixPath(self.name).parts))


@dataclass(frozen=True, slots=True)
class Listing:
    """What is in a store: all files by rising place, and the names of all folders that it tells, empty ones too."""

    entries: list[Entry]
    folders: list[str]


class Store(Protocol):
    """A folder or archive of files."""

    @property
    def path(self) -> Path:
        """The path of the folder or archive."""
        ...

    def listing(self) -> Listing:
        """List files and folders; DataError if the store cannot be read or a name leads out of it."""
        ...

    def opened(self) -> AbstractContextManager[Callable[[Entry], bytes]]:
        """Open the store, and give a function that reads one file and may raise READ_ERRORS."""
        ...


def readable(name: str) -> str:
    """Return a file's name as text, composed (NFC): bytes that are no UTF-8 are read as Latin-1.

    Control characters, which a terminal would obey, are written as escapes.
    """
    try:
        name.encode()
    except UnicodeEncodeError:
        name = name.encode("utf-8", "surrogateescape").decode("latin-1")
    name = unicodedata.normalize("NFC", name)
    return name if name.isprintable() else "".join(map(_printable, name))


def _printable(character: str) -> str:
    return character if character.isprintable() else character.encode("unicode_escape").decode()


def find_store(path: Path) -> Store | None:
    """Return the store at a path, or None if it is no folder, and no archive by the ending of its name."""
    if path.is_dir():
        return Folder(path)
    if not path.is_file() or not path.name.lower().endswith(ARCHIVES):
        return None
    return Zip(path) if path.suffix.lower() == ".zip" else Tar(path)


@dataclass(frozen=True, slots=True)
class Folder:
    """All files below a folder, by name; links are followed, unless back to a folder on the way to them."""

    path: Path

    def listing(self) -> Listing:
        """List files and folders."""
        folders: list[str] = []
        with _damage_told(self.path):
            files = _bounded(_files_below(self.path, folders))
            named = sorted((file.relative_to(self.path).as_posix(), _size(file)) for file in files)
        return Listing([Entry(name, size, place) for place, (name, size) in enumerate(named)], folders)

    @contextmanager
    def opened(self) -> Iterator[Callable[[Entry], bytes]]:
        """Give a function that reads one file."""
        yield lambda entry: _read_plain(self.path / entry.name)


@dataclass(frozen=True, slots=True)
class Tar:
    """A tar archive, as it is or compressed by gzip."""

    path: Path

    def listing(self) -> Listing:
        """List files and folders."""
        entries, folders = [], []
        with _damage_told(self.path), self._stream() as stream, tarfile.open(fileobj=stream, mode="r:") as archive:
            for member in _bounded(archive):
                if member.isdir():
                    folders.append(member.name)
                else:
                    entries.append(self._entry(member))
        return Listing(entries, folders)

    @contextmanager
    def opened(self) -> Iterator[Callable[[Entry], bytes]]:
        """Give a function that reads one file; going back in a compressed archive begins it anew."""
        with self._stream() as stream:

            def read(entry: Entry) -> bytes:
                stream.seek(entry.place)
                return stream.read(entry.size)

            yield read

    def _stream(self) -> BinaryIO:
        with self.path.open("rb") as start:
            compressed = start.read(2) == b"\x1f\x8b"
        return gzip.open(self.path, "rb") if compressed else self.path.open("rb")  # type: ignore[return-value]

    def _entry(self, member: tarfile.TarInfo) -> Entry:
        if not member.isreg() or member.issparse():
            raise DataError(
                f"{self.path} holds {member.name!r}, which is no plain file: pack the files that links point to"
            )
        return _checked(self.path, Entry(member.name, member.size, member.offset_data))


@dataclass(frozen=True, slots=True)
class Zip:
    """A zip archive."""

    path: Path

    def listing(self) -> Listing:
        """List files and folders."""
        entries, folders = [], []
        with _damage_told(self.path), zipfile.ZipFile(self.path) as archive:
            for place, member in enumerate(_bounded(archive.infolist())):
                if (name := _zipped_name(member)).endswith("/"):
                    folders.append(name)
                else:
                    entries.append(_checked(self.path, Entry(name, member.file_size, place)))
        return Listing(entries, folders)

    @contextmanager
    def opened(self) -> Iterator[Callable[[Entry], bytes]]:
        """Give a function that reads one file."""
        with zipfile.ZipFile(self.path) as archive:
            members = archive.infolist()
            yield lambda entry: archive.read(members[entry.place])


def _zipped_name(member: zipfile.ZipInfo) -> str:
    """The name with slashes: Windows forbids backslashes in names, and some of its packers part folders by them."""
    name = _decoded_name(member)
    return name.replace("\\", "/") if member.create_system in _WINDOWS else name


def _decoded_name(member: zipfile.ZipInfo) -> str:
    """The name: UTF-8 where a packer forgot to mark it as such, else what `zipfile` reads, marked UTF-8 or CP437."""
    if member.flag_bits & _ZIP_UTF8:
        return member.filename
    with contextlib.suppress(UnicodeError):
        return member.filename.encode("cp437").decode()
    return member.filename


def _checked(path: Path, entry: Entry) -> Entry:
    name = PurePosixPath(entry.name)
    if name.is_absolute() or ".." in name.parts:
        raise DataError(
            f"{path} holds {entry.name!r}, a name that leads out of the archive: pack it again, from the folder itself"
        )
    return entry


def _bounded(files: Iterable[_T]) -> Iterator[_T]:
    for count, file in enumerate(files):
        if count == _MOST_FILES:
            raise DataError(f"there are more than {_MOST_FILES:,} files: give a folder or archive of images only")
        yield file


def _files_below(top: Path, folders: list[str]) -> Iterator[Path]:
    """Each file; the names of the folders on the way join `folders`."""
    for folder, inside, files in os.walk(top, followlinks=True, onerror=_raise):
        inside[:] = [name for name in inside if not _leads_back(Path(folder, name))]
        folders += [Path(folder, name).relative_to(top).as_posix() for name in inside]
        yield from (Path(folder, file) for file in files)


def _leads_back(folder: Path) -> bool:
    """Whether this is a link to one of the folders on the way to it, or around them: all in there is met without it."""
    if not folder.is_symlink():
        return False
    target = folder.resolve()
    return any(parent.resolve().is_relative_to(target) for parent in folder.parents)


def _read_plain(file: Path) -> bytes:
    """The content of a file that is no pipe or device, which might never end."""
    if file.exists() and not file.is_file():
        raise OSError(errno.EINVAL, "no plain file")
    return file.read_bytes()


def _size(file: Path) -> int:
    try:
        return file.stat().st_size
    except OSError:  # a dangling link: reading it will raise
        return 0


def _raise(error: OSError) -> None:
    raise error


@contextmanager
def _damage_told(path: Path) -> Iterator[None]:
    try:
        yield
    except (*READ_ERRORS, tarfile.TarError) as error:
        reason = getattr(error, "strerror", None) or str(error) or "it ends too early"
        what = getattr(error, "filename", None) or path
        raise DataError(
            f"{what} cannot be read: {reason}; it must be whole, and a file or folder that you may read"
        ) from error
