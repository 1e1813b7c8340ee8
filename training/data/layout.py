"""How an image data set is laid out: a folder for each class, and perhaps folders above them for its parts."""

from collections.abc import Iterable
from pathlib import Path
from typing import Literal

import torch

from training.data.archives import ARCHIVES, Entry, Store, find_store
from training.data.image_files import FileSet
from training.errors import DataError

Part = Literal["train", "val", "test"]

_LAYOUT = "one folder of images for each class, or train/, val/ and test/ that hold such folders"

_PARTS: dict[str, Part] = {"train": "train", "val": "val", "valid": "val", "validation": "val", "test": "test"}

_METADATA = "__MACOSX"
"""Name of a folder that macOS adds to its archives."""

_Placed = tuple[tuple[str, ...], Entry]


def read_parts(path: Path) -> dict[Part | None, FileSet] | None:
    """Return the parts of the image data set at a path as `find_parts` does, None if it is no folder and no archive.

    A folder may also hold an archive for some parts or all: train.tar.gz, test.tar.gz, val/.
    """
    if holders := _holders(path):
        return {part: _part(part, path / name) for part, name in holders.items()}
    store = find_store(path)
    return None if store is None else find_parts(store)


def find_parts(store: Store) -> dict[Part | None, FileSet]:
    """Return the parts of a data set, or all of it under None if it has none; DataError if it is laid out otherwise.

    A single folder around everything is looked into; hidden files and those beside the folders are passed over.
    """
    placed = [(entry.parts, entry) for entry in store.entries() if not _is_hidden(entry)]
    placed = _unwrapped(placed)
    tops = {parts[0] for parts, _ in placed if len(parts) > 1}
    if not tops or not tops <= _PARTS.keys():
        return {None: _file_set(store, placed)}
    names = _one_for_each(store.path, ((_PARTS[top], f"{top}/") for top in sorted(tops)))
    return {part: _file_set(store, _below(placed, name.rstrip("/")), f"{name} of ") for part, name in names.items()}


def _holders(path: Path) -> dict[Part, str]:
    """The names of the archives and folders that hold one part each, in a folder with such an archive."""
    names = {f"{name}{suffix}": part for name, part in _PARTS.items() for suffix in ARCHIVES}
    inside = sorted(path.iterdir()) if path.is_dir() else []
    archives = [(names[file.name], file.name) for file in inside if file.name in names]
    if not archives:
        return {}
    folders = [(_PARTS[file.name], f"{file.name}/") for file in inside if file.name in _PARTS and file.is_dir()]
    return _one_for_each(path, archives + folders)


def _one_for_each(path: Path, named: Iterable[tuple[Part, str]]) -> dict[Part, str]:
    """The name of each part's folder or archive; DataError if a part has two, for one would be passed over."""
    names: dict[Part, str] = {}
    for part, name in named:
        if part in names:
            raise DataError(
                f"{path} holds {names[part]} and {name}, both of them for {part}: "
                "move all that should count into one, and the other away"
            )
        names[part] = name
    return names


def _part(part: Part, holder: Path) -> FileSet:
    store = find_store(holder)
    parts = find_parts(store) if store is not None else {}
    for name in (part, None):
        if name in parts:
            return parts[name]
    raise DataError(f"{holder} must hold {part}/, or one folder of images for each class")


def _is_hidden(entry: Entry) -> bool:
    return any(part.startswith(".") or part == _METADATA for part in entry.parts)


def _unwrapped(placed: list[_Placed]) -> list[_Placed]:
    """The same without the folders around everything, which hold no image themselves and have no part's name."""
    while True:
        tops = {parts[0] for parts, _ in placed if len(parts) > 1}
        if len(tops) != 1 or tops <= _PARTS.keys():
            return placed
        inside = _below(placed, *tops)
        if not any(len(parts) > 1 for parts, _ in inside):
            return placed
        placed = inside


def _below(placed: list[_Placed], folder: str) -> list[_Placed]:
    return [(parts[1:], entry) for parts, entry in placed if len(parts) > 1 and parts[0] == folder]


def _file_set(store: Store, placed: list[_Placed], where: str = "") -> FileSet:
    in_class = [(parts[0], entry) for parts, entry in placed if len(parts) > 1]
    classes = sorted({name for name, _ in in_class})
    if len(classes) < 2:
        found = f"only {classes[0]!r}" if classes else "no folder with files"
        raise DataError(f"{where}{store.path} must hold {_LAYOUT}; it has {found}")
    index = {name: position for position, name in enumerate(classes)}
    labels = torch.tensor([index[name] for name, _ in in_class], dtype=torch.int64)
    return FileSet(store, tuple(entry for _, entry in in_class), labels, tuple(classes))
