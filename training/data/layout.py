"""How an image data set is laid out: the parts that it has, and what in it is none of its images."""

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from training.data.archives import ARCHIVES, Folder, Store, find_store
from training.data.class_names import named
from training.data.folder_tree import FolderTree, read_tree
from training.data.image_files import FileSet
from training.data.label_table import LabelTable
from training.data.labelling import (
    LEAST_CLASSES,
    Unlabelled,
    class_folders,
    counts,
    label_files,
    label_parts,
    read_tables,
)
from training.data.part_names import Part, part_named
from training.errors import DataError

_RENAME = "call the folders of parts train/, val/ and test/, and move others away"

_ORDER: tuple[Part, ...] = ("train", "val", "test")


@dataclass(frozen=True, slots=True)
class Layout:
    """The parts of a data set, or all of it under None if it has none, and what its user should know of them."""

    path: Path
    parts: Mapping[Part | None, FileSet | Unlabelled]
    notes: tuple[str, ...] = ()

    def files(self, part: Part | None) -> FileSet:
        """Return a part that is there; DataError if its images are of no classes."""
        found = self.parts[part]
        if isinstance(found, Unlabelled):
            raise DataError(found.reason)
        return found


def read_layout(path: Path) -> Layout | None:
    """Return how the data set at a path is laid out, None if it is no folder and no archive.

    A folder may also hold an archive for some parts or all: train.tar.gz, test.tar.gz, val/. DataError if it cannot
    be read, or can be understood in several ways.
    """
    if holders := _holders(path):
        return _read_holders(path, holders)
    store = find_store(path)
    return None if store is None else find_layout(store)


def find_layout(store: Store, tables: Sequence[LabelTable] = (), known: Collection[str] = ()) -> Layout:
    """Return how a store is laid out, as `read_layout` does; `tables` of labels lie beside it.

    `known` are the classes to train on, if this is an archive of another part.

    A single folder around everything is looked into. Hidden files, folders without images and those that tools leave
    beside a data set are passed over.
    """
    tree, notes = read_tree(store), list[str]()
    tables = [*tables, *read_tables(store, tree.files)]
    while (inner := _around(tree)) is not None:
        notes += _passed_over(tree, [inner])
        tree = inner
        tables += read_tables(store, tree.files)
    folders = _part_folders(store.path, tree)
    if not folders:
        _ask_which_are_classes(store.path, tree, tables)
        notes += _passed_over(tree, class_folders(tree))
        found = _parts_of_one_folder(store, tree, tables, known)
        return Layout(store.path, found, (*notes, *_compared(found), *_alike(*found.values())))
    notes += _passed_over(tree, folders.values())
    parts: dict[Part | None, FileSet | Unlabelled] = {}
    for part, folder in folders.items():
        own = [*read_tables(store, folder.files), *_tables_of(part, tables)]
        parts[part] = label_files(store, folder, f"{folder.name}/ of {store.path}", own, _classes_of(parts) or known)
        notes += _passed_over(folder, class_folders(folder), f"{folder.name}/")
    return Layout(store.path, parts, (*notes, *_compared(parts), *_alike(*parts.values())))


def _around(tree: FolderTree) -> FolderTree | None:
    """The only folder of data, if it holds others and is no part: all that counts is in it."""
    folders = [folder for folder in tree.picture_folders() if counts(folder)]
    if len(folders) != 1 or part_named(folders[0].name) is not None:
        return None
    (folder,) = folders
    least = 2 if tree.own_pictures() else 1
    return folder if len(folder.picture_folders()) >= least else None


def _part_folders(path: Path, tree: FolderTree) -> dict[Part, FolderTree]:
    """The folders of parts, in their order, where they are not classes that happen to have such names."""
    folders = [folder for folder in tree.picture_folders() if counts(folder)]
    found = [(part, folder) for folder in folders if (part := part_named(folder.name)) is not None]
    others = [folder for folder in folders if part_named(folder.name) is None]
    if others and not any(len(class_folders(folder)) > 1 for _, folder in found):
        return {}
    _one_for_each(path, ((part, f"{folder.name}/") for part, folder in found))
    if len(found) == 1 and others:
        ((_, folder),) = found
        raise DataError(
            f"{path} holds {folder.name}/, with folders for {named([each.name for each in class_folders(folder)])}, "
            f"and beside it {named([f'{each.name}/' for each in others])}: is {folder.name}/ a part or a class? "
            f"If it is a part, {_RENAME}; if it is a class, move its images up, out of the inner folders"
        )
    return dict(sorted(found, key=lambda each: _ORDER.index(each[0])))


def _parts_of_one_folder(
    store: Store, tree: FolderTree, tables: Sequence[LabelTable], known: Collection[str]
) -> dict[Part | None, FileSet | Unlabelled]:
    """The parts that tables tell, by their names or in a column; all under None if none does."""
    if len(class_folders(tree)) < LEAST_CLASSES and not any(table.decides for table in tables):
        told = label_parts(store, tree, str(store.path), tables)
        if told:
            return {part: told[part] for part in _ORDER if part in told}
    return _parts_by_column(label_files(store, tree, str(store.path), tables, known), tables)


def _parts_by_column(
    files: FileSet | Unlabelled, tables: Sequence[LabelTable]
) -> dict[Part | None, FileSet | Unlabelled]:
    """The parts that a table's own column tells; all under None if none does. DataError if it tells those of some."""
    if isinstance(files, FileSet):
        for table in tables:
            told = {entry.place: part for entry, part in table.match_parts(files.entries)}
            if told and len(told) < len(files):
                raise DataError(
                    f"{table.name} tells the part, train, val or test, of {len(told):,} of {len(files):,} images: fill "
                    "that column in every row, or remove it"
                )
            if told:
                of = [told[entry.place] for entry in files.entries]
                places = {part: [i for i, own in enumerate(of) if own == part] for part in _ORDER if part in of}
                notes = iter([files.notes])
                return {
                    part: replace(files.take(torch.tensor(indices)), notes=next(notes, ()))
                    for part, indices in places.items()
                }
    return {None: files}


def _alike(*parts: FileSet | Unlabelled) -> Iterator[str]:
    """A note on classes whose names a reader would take for the same."""
    names = dict.fromkeys(name for files in parts if isinstance(files, FileSet) for name in files.classes)
    same: dict[str, list[str]] = {}
    for name in names:
        same.setdefault(" ".join(name.casefold().split()), []).append(name)
    for several in same.values():
        if len(several) > 1:
            yield f"{' and '.join(map(repr, several))} are different classes, for their names differ in case or blanks"


def _tables_of(part: Part, tables: Iterable[LabelTable]) -> list[LabelTable]:
    """The tables with the part's name, as train.csv, then those with no part's."""
    parts = [(part_named(table.name.rpartition(".")[0]), table) for table in tables]
    return [table for wanted in (part, None) for of, table in parts if of == wanted]


def _ask_which_are_classes(path: Path, tree: FolderTree, tables: Sequence[LabelTable]) -> None:
    """DataError where folders repeat below all others, or one holds parts: which of them are the classes?"""
    tops = class_folders(tree)
    inside = [{folder.name for folder in top.picture_folders()} for top in tops]
    if len(tops) < 2 or any(top.own_pictures() for top in tops):
        return
    if any(table.decides and table.match(tree.entries()) for table in tables):
        return
    names = named([f"{top.name}/" for top in tops])
    count = Counter(name for folders in inside for name in folders)
    if len(repeated := [name for name, times in count.items() if times > 1]) > 1:
        raise DataError(
            f"{path} holds {names}, and in several of them {named(repeated)}: which are the classes? If the inner "
            f"folders are, {_RENAME}; if the outer ones are, move their images up, out of the inner folders; "
            "or lay a table labels.csv with the columns image,label beside them"
        )
    for top, folders in zip(tops, inside, strict=True):
        if parts := [name for name in folders if part_named(name)]:
            raise DataError(
                f"{path} holds {names}, and {top.name}/ holds {named(parts)}: if these are the parts of the data, give "
                f"{path / top.name} instead; if {top.name} is a class, move its images up, out of the inner folders"
            )


def _passed_over(tree: FolderTree, used: Iterable[FolderTree], where: str = "") -> Iterator[str]:
    """A note for each folder that does not count; a class may be meant by one that is empty."""
    counted = {folder.name for folder in used}
    for name, folder in sorted(tree.folders.items()):
        if name in counted:
            continue
        entries = folder.entries()
        if folder.has_pictures():
            yield f"{where}{name}/ is passed over: by its name it is no part of the data"
        elif entries:
            yield f"{where}{name}/ is passed over: none of its {len(entries):,} files is called like an image"
        else:
            yield f"{where}{name}/ is empty: it is no class"


def _compared(parts: Mapping[Part | None, FileSet | Unlabelled]) -> Iterator[str]:
    """Notes on parts whose classes are others than those to train on."""
    train = set(_classes_of(parts))
    for part, files in parts.items():
        if isinstance(files, Unlabelled):
            if part == "test":
                yield f"nothing can be measured on the test images: {files.reason}"
        elif train and part != "train":
            if lacking := train - set(files.classes):
                yield f"{part}/ has no image of {named(lacking)}: how well that is told is not measured there"
            if unknown := set(files.classes) - train:
                yield f"{part}/ has images of {named(unknown)}, of which there are none to train on"


def _classes_of(parts: Mapping[Part | None, FileSet | Unlabelled]) -> tuple[str, ...]:
    train = parts.get("train")
    return train.classes if isinstance(train, FileSet) else ()


def _holders(path: Path) -> dict[Part, str]:
    """The names of the archives and folders that hold one part each, in a folder with such an archive."""
    try:
        inside = sorted(path.iterdir()) if path.is_dir() else []
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}; it must be a folder that you may read") from error
    archives = [(part, file.name) for file in inside if (part := _archived_part(file.name)) is not None]
    if not archives:
        return {}
    folders = [(part, f"{file.name}/") for file in inside if file.is_dir() and (part := part_named(file.name))]
    return _one_for_each(path, archives + folders)


def _archived_part(name: str) -> Part | None:
    ending = next((ending for ending in sorted(ARCHIVES, key=len) if name.lower().endswith(ending)), None)
    return None if ending is None else part_named(name[: -len(ending)])


def _one_for_each(path: Path, found: Iterable[tuple[Part, str]]) -> dict[Part, str]:
    """The name of each part's folder or archive; DataError if a part has two, for one would be passed over."""
    names: dict[Part, str] = {}
    for part, name in found:
        if part in names:
            raise DataError(
                f"{path} holds {names[part]} and {name}, both of them for {part}: "
                "move all that should count into one, and the other away"
            )
        names[part] = name
    return names


def _read_holders(path: Path, holders: Mapping[Part, str]) -> Layout:
    folder = Folder(path)
    tables = read_tables(folder, [entry for entry in folder.listing().entries if len(entry.parts) == 1])
    parts: dict[Part | None, FileSet | Unlabelled] = {}
    notes: list[str] = []
    for part in filter(holders.get, _ORDER):
        name = holders[part]
        store = find_store(path / name)
        layout = None if store is None else find_layout(store, tables, _classes_of(parts))
        found = {} if layout is None else layout.parts
        held = found.get(part, found.get(None))
        if layout is None or held is None:
            raise DataError(
                f"{path / name} must hold {part}/, or one folder of images for each class: name it by what it holds"
            )
        parts[part] = held
        notes += layout.notes
    return Layout(path, parts, (*notes, *_compared(parts)))
