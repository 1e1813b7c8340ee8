"""The files of a store as a tree of folders."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import PurePosixPath

from training.data.archives import Entry, Store, readable

_PICTURE = re.compile(
    r".*\.(png|jpe?g?|jfif|webp|bmp|gif|tiff?|avif|hei[cf]|p[gp]m|jp2|jxl)|[^.]*\d[^.]*(\.\d+)?|[^.]*\.\d+",
    re.IGNORECASE,
)
"""Name of a picture, also of types that are not read here; or of one without an ending but with a number in it."""

_METADATA = frozenset(
    {
        "__macosx",
        "@eadir",
        "#recycle",
        "@recycle",
        "$recycle.bin",
        "system volume information",
        "lost+found",
        "thumbs.db",
        "ehthumbs.db",
        "desktop.ini",
        "icon\r",
    }
)
"""Names, in lower case, of what macOS adds to archives, network drives and file systems to what they hold, Windows to
folders of pictures."""


@dataclass(slots=True)
class FolderTree:
    """A folder: its name as it reads, and as stored; its files, and the folders in it by their names as they read."""

    name: str = ""
    stored: str = ""
    files: list[Entry] = field(default_factory=list)
    folders: dict[str, "FolderTree"] = field(default_factory=dict)
    twins: list[str] = field(default_factory=list)
    """Names as they read that several folders have, whose stored names are different bytes."""

    def walk(self) -> Iterator["FolderTree"]:
        """Yield this folder and all below it."""
        waiting = [self]
        while waiting:
            yield (folder := waiting.pop())
            waiting += reversed(folder.folders.values())

    def entries(self) -> list[Entry]:
        """Return all files in it and below it, by rising place."""
        return sorted((entry for folder in self.walk() for entry in folder.files), key=lambda entry: entry.place)

    def has_pictures(self) -> bool:
        """Whether a file in it or below it has a picture's name."""
        return any(is_picture(entry) for folder in self.walk() for entry in folder.files)

    def own_pictures(self) -> list[Entry]:
        """Return the files directly in it that have a picture's name."""
        return [entry for entry in self.files if is_picture(entry)]

    def picture_folders(self) -> list["FolderTree"]:
        """Return the folders directly in it that hold pictures, by name."""
        return [folder for _, folder in sorted(self.folders.items()) if folder.has_pictures()]

    def child(self, name: str) -> "FolderTree":
        """Return the folder of this stored name in it, made if it is not there."""
        text = readable(name)
        known = self.folders.setdefault(text, FolderTree(text, name))
        if known.stored != name and text not in self.twins:
            self.twins.append(text)
        return known


def read_tree(store: Store) -> FolderTree:
    """Return the store's files and folders, but for those that are hidden; DataError if it cannot be read."""
    listing, root = store.listing(), FolderTree()
    for folder in listing.folders:
        _place(root, PurePosixPath(folder).parts)
    for entry in listing.entries:
        path = PurePosixPath(entry.name)
        if not is_hidden(path.name) and (place := _place(root, path.parts[:-1])) is not None:
            place.files.append(entry)
    return root


def is_picture(entry: Entry) -> bool:
    """Whether a file has a picture's name."""
    return _PICTURE.fullmatch(PurePosixPath(entry.name).name) is not None


def is_hidden(name: str) -> bool:
    """Whether a file or folder is not meant to be seen."""
    return name.startswith(".") or name.lower() in _METADATA


def _place(root: FolderTree, folders: tuple[str, ...]) -> FolderTree | None:
    """The folder at the end of this way, made if it is not there; None if it is hidden."""
    folder = root
    for name in folders:
        if is_hidden(name):
            return None
        folder = folder.child(name)
    return folder
