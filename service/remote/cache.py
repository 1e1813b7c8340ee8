"""What was copied from stores: each file once, by its digest, and repositories of links to these.

    blobs/<sha256>                              read-only
    repositories/<name>/<model>/<version>/      hard links, a folder as any other repository

A file or folder appears under its name when it is whole and on the disk. One process at a time copies a repository; any
number may read. Links are hard ones, so the kernel counts who needs a blob.
"""

import fcntl
import hashlib
import os
import re
import shutil
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

from models.artifact.artifact import fsync_directory

UNUSED_AFTER_S = 86_400
"""Age of a blob without a link before it goes: longer than any copying, which links what it has when it is whole."""
_COMPLETE = ".complete"


class Cache:
    """The copy of one repository, and the blobs that all repositories share."""

    def __init__(self, directory: Path, url: str) -> None:
        self._blobs = directory / "blobs"
        readable = re.sub(r"[^A-Za-z0-9]+", "-", url)[:80]
        self.repository = directory / "repositories" / f"{readable}-{hashlib.sha256(url.encode()).hexdigest()[:12]}"

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Nobody else copies this repository meanwhile; the lock ends with the process at the latest."""
        self._blobs.mkdir(parents=True, exist_ok=True)
        self.repository.mkdir(parents=True, exist_ok=True)
        try:  # told here, as it could be taken for a denial of the store later
            with self._temporary():
                pass
        except OSError as error:
            raise OSError(error.errno, error.strerror, str(self._blobs)) from error
        descriptor = os.open(self.repository, os.O_RDONLY | os.O_DIRECTORY)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)

    def complete_since(self) -> str | None:
        """When the repository was last copied whole, ISO 8601, UTC; None if it never was."""
        try:
            return (self.repository / _COMPLETE).read_text()
        except OSError:
            return None

    def has(self, digest: str) -> bool:
        """Whether the blob is there; one that is damaged is removed."""
        blob = self._blobs / digest
        try:
            with blob.open("rb") as file:
                sound = hashlib.file_digest(file, "sha256").hexdigest() == digest
        except FileNotFoundError:
            return False
        if sound:
            os.utime(blob)
        else:
            blob.unlink()
        return sound

    def add(self, chunks: Iterable[bytes]) -> str:
        """Keep a file; its digest."""
        sha256 = hashlib.sha256()
        with self._temporary() as temporary:
            with (temporary / "blob").open("wb") as file:
                for chunk in chunks:
                    sha256.update(chunk)
                    file.write(chunk)
                file.flush()
                os.fchmod(file.fileno(), 0o444)
                os.fsync(file.fileno())
            (temporary / "blob").rename(self._blobs / sha256.hexdigest())
        return sha256.hexdigest()

    def link(self, model: str, version: str, files: Mapping[str, str]) -> None:
        """Make `<model>/<version>/` of these files, digests by name, in the place of what is there."""
        target = self.repository / model / version
        if target.is_dir() and self._is_linked(target, files):
            return
        with self._temporary() as temporary:
            made = temporary / "made"
            made.mkdir()
            for name, digest in files.items():
                os.link(self._blobs / digest, made / name)
            fsync_directory(made)
            target.parent.mkdir(exist_ok=True)
            if target.exists():
                target.rename(temporary / "old")
            made.rename(target)
            fsync_directory(target.parent)

    def holds(self, model: str, version: str) -> bool:
        """Whether a version is there."""
        return (self.repository / model / version).is_dir()

    def keep_only(self, versions: Iterable[tuple[str, str]]) -> None:
        """Remove every other version, and the blobs that no repository has needed for a day; it is whole now."""
        kept = {self.repository / model / version for model, version in versions}
        for model in [path for path in self.repository.iterdir() if path.is_dir()]:
            for version in [path for path in model.iterdir() if path not in kept]:
                shutil.rmtree(version)
            if not any(model.iterdir()):
                model.rmdir()
        self._forget_unused()
        with self._temporary() as temporary:
            (temporary / _COMPLETE).write_text(datetime.now(UTC).isoformat(timespec="seconds"))
            (temporary / _COMPLETE).rename(self.repository / _COMPLETE)

    def _forget_unused(self) -> None:
        """Remove old blobs that nothing links to, and what killed processes left."""
        for path in self._blobs.iterdir():
            with suppress(FileNotFoundError):  # another process does the same
                status = path.stat()
                if status.st_mtime > time.time() - UNUSED_AFTER_S:
                    continue
                if path.is_dir():
                    shutil.rmtree(path)
                elif status.st_nlink == 1:
                    path.unlink()

    def _is_linked(self, target: Path, files: Mapping[str, str]) -> bool:
        """Whether the folder has these very blobs: one that was damaged and copied again is another file."""
        present = {path.name: path for path in target.iterdir()}
        return present.keys() == files.keys() and all(
            path.samefile(self._blobs / files[name]) for name, path in present.items()
        )

    @contextmanager
    def _temporary(self) -> Iterator[Path]:
        with tempfile.TemporaryDirectory(dir=self._blobs, prefix=".") as directory:
            yield Path(directory)
