"""Where the classes of pictures come from: the folders that they lie in, or a table beside them."""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace

import torch

from training.data.archives import ARCHIVES, READ_ERRORS, Entry, Store, readable
from training.data.class_names import named
from training.data.folder_tree import FolderTree, is_picture
from training.data.image_files import FileSet
from training.data.label_table import LabelTable, is_table, read_table
from training.data.part_names import Part, is_stranger, part_named
from training.errors import DataError

LEAST_CLASSES = 2
"""Folders that are classes by themselves: a single one tells nothing apart."""

_LEAST_PARTS = 2
"""Parts whose tables divide one folder: the only one would be all of it."""


@dataclass(frozen=True, slots=True)
class Unlabelled:
    """Pictures that are of no class, or all of one; the reason says so, and what to do."""

    store: Store
    entries: tuple[Entry, ...]
    reason: str

    def __len__(self) -> int:
        return len(self.entries)


def label_files(
    store: Store, tree: FolderTree, where: str, tables: Sequence[LabelTable], known: Collection[str]
) -> FileSet | Unlabelled:
    """Return the images below a folder with their classes, `where` being what to call it.

    Folders are the classes where there are two, or one of those that are `known` from another part. Else the tables
    are asked. DataError if classes cannot be told apart, or folders and a table say different things.
    """
    known = frozenset(known)
    inside = _innermost(tree, known)
    folders = class_folders(inside)
    pictures = [entry for entry in tree.entries() if is_picture(entry)]
    matched = next((pair for table in tables if (pair := (table, table.match(pictures)))[1]), None)
    if not _are_classes(folders, known):
        if matched is None:
            return Unlabelled(store, tuple(pictures), _reason(tree, pictures, folders, where, tables, known))
        return _by_table(store, *matched, len(pictures), where)
    by_folders = _by_folders(store, inside, folders, where)
    if matched is not None and _contradicts(matched[1], by_folders, where, matched[0]):
        return _by_table(store, *matched, len(pictures), where)
    return by_folders


def label_parts(store: Store, tree: FolderTree, where: str, tables: Sequence[LabelTable]) -> dict[Part, FileSet]:
    """Return the parts whose own tables, as train.csv and test.csv, name images of one folder; none if one alone does.

    DataError if an image is in the tables of two parts.
    """
    pictures = [entry for entry in tree.entries() if is_picture(entry)]
    found: dict[Part, tuple[LabelTable, list[tuple[Entry, str]]]] = {}
    for table in tables:
        part = part_named(table.name.rpartition(".")[0])
        if part and part not in found and (matched := table.match(pictures)):
            found[part] = table, matched
    if len(found) < _LEAST_PARTS:
        return {}
    labelled = _count_once(found.values())
    parts = {part: _by_table(store, *pair, len(pair[1]), where) for part, pair in found.items()}
    if left := len(pictures) - labelled:
        first: Part = "train" if "train" in parts else next(iter(parts))
        told = f"{left:,} images are in no row of {named([table.name for table, _ in found.values()])}: passed over"
        parts[first] = replace(parts[first], notes=(*parts[first].notes, told))
    return parts


def _count_once(tables: Iterable[tuple[LabelTable, list[tuple[Entry, str]]]]) -> int:
    """How many images are in these tables; DataError if one is in two of them."""
    table_of: dict[int, str] = {}
    for table, matched in tables:
        for entry, _ in matched:
            if table_of.setdefault(entry.place, table.name) != table.name:
                raise DataError(
                    f"{readable(entry.name)} is in {table_of[entry.place]} and in {table.name}: an image can be of one "
                    "part only, remove one of the rows"
                )
    return len(table_of)


def counts(folder: FolderTree) -> bool:
    """Whether a folder with pictures may be data: what tools leave has a usual name, and no picture directly in it."""
    return bool(folder.own_pictures()) or not is_stranger(folder.name)


def class_folders(tree: FolderTree) -> list[FolderTree]:
    """Return the folders in it that may be classes: those with pictures, without what tools leave beside them."""
    folders = tree.picture_folders()
    usual = [folder for folder in folders if counts(folder)]
    return usual if len(usual) > 1 else folders


def read_tables(store: Store, files: Sequence[Entry]) -> list[LabelTable]:
    """Return the tables of labels among a store's files; DataError if one contradicts itself."""
    tables = []
    with store.opened() as read:
        for entry in files:
            if is_table(entry.name):
                try:
                    content = read(entry)
                except READ_ERRORS as error:
                    raise DataError(
                        f"{readable(entry.name)} of {store.path} cannot be read: {error}; mend it or move it away"
                    ) from error
                if (table := read_table(entry.parts[-1], content)) is not None:
                    tables.append(table)
    return tables


def _are_classes(folders: Sequence[FolderTree], known: Collection[str]) -> bool:
    """Whether folders are classes by themselves: one of the known ones, or any two where none are known."""
    return any(folder.name in known for folder in folders) if known else len(folders) >= LEAST_CLASSES


def _innermost(tree: FolderTree, known: Collection[str]) -> FolderTree:
    """The folder itself, or the only one in it that holds all its classes: train/images/, seg_train/seg_train/."""
    while len(folders := tree.picture_folders()) == 1:
        (folder,) = folders
        if folder.name in known or len(class_folders(folder)) < (1 if known else LEAST_CLASSES):
            break
        tree = folder
    return tree


def _by_folders(store: Store, tree: FolderTree, folders: Sequence[FolderTree], where: str) -> FileSet:
    for twin in tree.twins:
        raise DataError(
            f"{where} holds several folders whose names read {twin!r} and are spelt in other bytes: "
            "put their images into one of them"
        )
    notes = []
    if beside := tree.own_pictures():
        notes.append(f"{where}: {len(beside):,} images beside the folders of classes are passed over")
    if nested := [folder.name for folder in folders if folder.picture_folders()]:
        notes.append(f"{where}: folders inside a class count as that class, in {named(nested)}")
    pairs = [(entry, folder.name) for folder in folders for entry in folder.entries()]
    return _file_set(store, pairs, tuple(notes))


def _by_table(
    store: Store, table: LabelTable, matched: Sequence[tuple[Entry, str]], pictures: int, where: str
) -> FileSet:
    notes = [f"classes come from {table.name}"]
    if absent := len(table.labels) - len(matched):
        notes.append(f"{absent:,} rows of {table.name} name no image in {where}")
    if left := pictures - len(matched):
        notes.append(f"{left:,} images are in no row of {table.name}: they are passed over")
    return _file_set(store, matched, tuple(notes))


def _contradicts(matched: Sequence[tuple[Entry, str]], files: FileSet, where: str, table: LabelTable) -> bool:
    """Whether a table counts that calls images otherwise than their folders.

    DataError if neither decides; a table that names few of them, and has no name that decides, is of something else.
    """
    folders = {entry.place: files.classes[label] for entry, label in zip(files.entries, files.labels, strict=True)}
    differing = [(entry, label) for entry, label in matched if folders.get(entry.place) != label]
    if not differing or (2 * len(matched) < len(files) and not table.decides):
        return False
    if not table.decides:
        entry, label = differing[0]
        raise DataError(
            f"{where} has folders {named(files.classes)}, but {table.name} calls {readable(entry.name)} {label}: "
            "if the table is right, call it labels.csv; if the folders are, move it away"
        )
    return True


def _file_set(store: Store, pairs: Sequence[tuple[Entry, str]], notes: tuple[str, ...]) -> FileSet:
    classes = sorted({name for _, name in pairs})
    index = {name: position for position, name in enumerate(classes)}
    labels = torch.tensor([index[name] for _, name in pairs], dtype=torch.int64)
    return FileSet(store, tuple(entry for entry, _ in pairs), labels, tuple(classes), notes=notes)


def _reason(
    tree: FolderTree,
    pictures: Sequence[Entry],
    folders: Sequence[FolderTree],
    where: str,
    tables: Sequence[LabelTable],
    known: Collection[str],
) -> str:
    """What was seen instead of classes, what is needed, and what to do."""
    files = tree.entries()
    seen = f"{where} holds {_seen(len(files), len(pictures), folders, known)}"
    archives = [entry.parts[-1] for entry in files if entry.name.lower().endswith(ARCHIVES)]
    if archives and not pictures:
        return f"{seen}, but {named(archives)}: unpack it, and give what is in it"
    remedy = (
        "make one folder of images for each class in it, or lay a table labels.csv with the columns image,label "
        "beside it"
    )
    if tables:
        rows = named([f"{table.name} ({next(iter(table.labels), 'no rows')}, ...)" for table in tables])
        return f"{seen}: {remedy}; no row of {rows} names one of its images"
    return f"{seen}: {remedy}"


def _seen(files: int, pictures: int, folders: Sequence[FolderTree], known: Collection[str]) -> str:
    if not files:
        return "no files"
    if not pictures:
        return f"{files:,} files, none of them called like an image"
    if not folders:
        return f"{pictures:,} images and no folders of classes"
    only = f"{pictures:,} images, in {named([f'{folder.name}/' for folder in folders])} only"
    return f"{only}, and the classes to train on are {named(known)}" if known else only
