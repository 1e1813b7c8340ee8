"""Labels in a CSV file beside the pictures: a row for each, with its file and its class."""

import codecs
import csv
import re
from collections.abc import Container, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import NamedTuple, TypeVar

from training.data.archives import Entry, readable
from training.data.part_names import Part, part_named
from training.errors import DataError

ENDINGS = (".csv", ".tsv")
"""Endings of the names of tables."""

_FILES = re.compile("(file|image|img|picture|photo)(_?(name|path|id|file))?s?|path|name|id")
_CLASSES = re.compile("(label|class|category|target)(_?name)?s?|species|breed|diagnosis|dx|y")
"""Names of the columns, in lower case and with underscores."""

_PARTS = re.compile("((data_?)?(set|split)|part(ition)?|subset|usage|phase)s?")
"""Name of the column that tells of which part of the data an image is."""

_ONE_HOT = {"0": False, "0.0": False, "1": True, "1.0": True}
"""Values in tables with a column for each class."""

_ROOTED = re.compile(r"([A-Za-z][\w+.-]*:)?[\\/]")
"""How an absolute path or an address begins."""

_SUBMISSION = re.compile("submission|submit|sample", re.IGNORECASE)
"""In the name of a table that competitions give as a form: its labels are none."""

_LARGEST_TABLE = 1 << 30
"""Bytes of a table that is still read: ten million rows."""


_LEAST_CLASSES = 2
"""Columns of classes in a table that has one for each."""

_T = TypeVar("_T")


class _Columns(NamedTuple):
    """The columns of files, of classes and perhaps of parts, and the first row of values."""

    file: int
    label: int
    part: int | None
    first: int


@dataclass(frozen=True, slots=True)
class LabelTable:
    """The class of each file, by the file's name as the table has it, with or without folders and its ending.

    `parts`: of which part of the data each is, where the table tells.
    """

    name: str
    labels: dict[str, str]
    parts: dict[str, Part] = field(default_factory=dict)

    @property
    def decides(self) -> bool:
        """Whether it is called so that it counts more than folders do: as the answer of a user who was asked."""
        return self.name.lower() in ("labels.csv", "labels.tsv")

    def match(self, entries: Iterable[Entry]) -> list[tuple[Entry, str]]:
        """Return the files that the table names, with their classes; DataError if a row fits several files."""
        return self._match(entries, self.labels)

    def match_parts(self, entries: Iterable[Entry]) -> list[tuple[Entry, Part]]:
        """Return the files of which the table tells the part, with it; DataError if a row fits several files."""
        return self._match(entries, self.parts)

    def _match(self, entries: Iterable[Entry], told: Mapping[str, _T]) -> list[tuple[Entry, _T]]:
        known = _by_name(list(entries))
        found: dict[int, tuple[Entry, _T]] = {}
        for name, key in _keys(told, known).items():
            fitting = known.get(key, [])
            if len(fitting) > 1:
                both = " and ".join(readable(entry.name) for entry in fitting[:2])
                raise DataError(f"{self.name} names {name}, which may be {both}: give the folder as well")
            for entry in fitting:
                found[entry.place] = entry, told[name]
        return [found[place] for place in sorted(found)]


def is_table(name: str) -> bool:
    """Whether a file of this name may be a table of labels."""
    return name.lower().endswith(ENDINGS) and not _SUBMISSION.search(name)


def read_table(name: str, content: bytes) -> LabelTable | None:
    """Return the table, None if it has no column of files or none of classes; DataError if a file has two classes."""
    if len(content) > _LARGEST_TABLE:
        raise DataError(f"{name} has {len(content):,} bytes, at most {_LARGEST_TABLE:,} are read: split it into parts")
    rows = [[cell.strip() for cell in row] for row in _rows(content)]
    columns = _columns(rows[0]) if rows else None
    if columns is None:
        labels = _one_hot(rows) if rows else None
        return None if labels is None else LabelTable(name, labels)
    labels, parts = {}, {}
    for row in rows[columns.first :]:
        if len(row) <= max(columns.file, columns.label) or not row[columns.file] or not row[columns.label]:
            continue
        image, own = row[columns.file], readable(row[columns.label])
        if labels.setdefault(image, own) != own:
            raise DataError(f"{name} calls {image} {labels[image]} and {own}: give each image one row and one class")
        if columns.part is not None and columns.part < len(row) and (part := part_named(row[columns.part])):
            parts[image] = part
    return LabelTable(name, labels, parts)


def _rows(content: bytes) -> list[list[str]]:
    lines = _text(content).replace("\0", "").splitlines()
    first = next((line for line in lines if line.strip()), "")
    delimiter = max(",;\t", key=first.count)
    try:
        return [row for row in csv.reader(lines, delimiter=delimiter) if any(map(str.strip, row))]
    except csv.Error:  # a field of more than 128 KiB: no table of labels
        return []


def _text(content: bytes) -> str:
    """The table's characters: UTF-16 says so by its first two bytes, as Excel writes it; Windows-1252 is no UTF-8."""
    first = ("utf-16",) if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) else ()
    for encoding in (*first, "utf-8-sig", "cp1252"):
        with suppress(UnicodeDecodeError):
            return content.decode(encoding)
    return content.decode("latin-1")


def _columns(header: Sequence[str]) -> _Columns | None:
    """Which columns are which, by their names, or by the first row's values if there is no header."""
    names = _names(header)
    files = sorted(filter(_FILES.fullmatch, names), key=len, reverse=True)  # image_path before image before id
    classes = sorted(filter(_CLASSES.fullmatch, names), key=len, reverse=True)  # label_name before label
    parts = [index for index, name in enumerate(names) if _PARTS.fullmatch(name)]
    if not files and not classes:
        return _columns_without_header(header)
    if len(names) == 2 and not (files and classes):
        files, classes = files or [names[1 - names.index(classes[0])]], classes or [names[1 - names.index(files[0])]]
    if not files or not classes:
        return None
    return _Columns(names.index(files[0]), names.index(classes[0]), parts[0] if parts else None, 1)


def _columns_without_header(row: Sequence[str]) -> _Columns | None:
    """A file and its class, and perhaps in front the part, as Google's AutoML has it."""
    is_file = [bool(PurePosixPath(cell).suffix) for cell in row]
    if len(row) == 2 and is_file[0]:
        return _Columns(0, 1, None, 0)
    return _Columns(1, 2, 0, 0) if len(row) == 3 and part_named(row[0]) and is_file[1] else None


def _one_hot(rows: Sequence[Sequence[str]]) -> dict[str, str] | None:
    """The classes by a table with a column of 0 and 1 for each, as Roboflow's; None if not each row has one 1."""
    header, *values = rows
    files = [index for index, name in enumerate(_names(header)) if _FILES.fullmatch(name)]
    classes = [index for index in range(len(header)) if index not in files]
    if not files or len(classes) < _LEAST_CLASSES:
        return None
    labels = {}
    for row in values:
        if len(row) != len(header) or any(row[index] not in _ONE_HOT for index in classes):
            return None
        of = [index for index in classes if _ONE_HOT[row[index]]]
        if len(of) != 1:
            return None
        labels[row[files[0]]] = readable(header[of[0]])
    return labels


def _names(header: Sequence[str]) -> list[str]:
    """The columns' names in lower case, with underscores."""
    return [re.sub(r"\W+", "_", re.sub(r"(?<=[a-z])(?=[A-Z])", "_", cell)).lower() for cell in header]


def _keys(names: Iterable[str], known: Container[str]) -> dict[str, str]:
    """What each row's file is called here: absolute paths of another machine without the folders that are not here."""
    keys = {name: _key(name) for name in names}
    if not all(map(_ROOTED.match, keys)):
        return keys
    paths = {name: PurePosixPath(key).parts for name, key in keys.items()}
    for cut in range(1, max(map(len, paths.values()), default=0)):
        shorter = {name: "/".join(parts[cut:]) for name, parts in paths.items()}
        if len(set(shorter.values())) < len(shorter):  # what are two files there would be one here
            break
        if any(key in known for key in shorter.values()):
            return shorter
    return keys


def _by_name(entries: Iterable[Entry]) -> dict[str, list[Entry]]:
    """The files by every end of their path, as a.png or b/a.png, with and without the name's ending."""
    found: dict[str, list[Entry]] = {}
    for entry in entries:
        parts = entry.parts
        for start in range(len(parts)):
            path = PurePosixPath(*parts[start:])
            for key in {str(path), str(path.with_suffix(""))}:
                found.setdefault(key, []).append(entry)
    return found


def _key(name: str) -> str:
    return str(PurePosixPath(*map(readable, PurePosixPath(name.replace("\\", "/")).parts)))
