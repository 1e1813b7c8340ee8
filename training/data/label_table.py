"""Labels in a CSV file beside the pictures: a row for each, with its file and its class."""

import csv
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from training.data.archives import Entry, readable
from training.errors import DataError

ENDINGS = (".csv", ".tsv")
"""Endings of the names of tables."""

_FILES = re.compile("(file|image|img|picture|photo)(_?(name|path|id|file))?s?|path|name|id")
_CLASSES = re.compile("(label|class|category|target)(_?name)?s?|species|breed|diagnosis|dx|y")
"""Names of the columns, in lower case and with underscores."""

_SUBMISSION = re.compile("submission|submit|sample", re.IGNORECASE)
"""In the name of a table that competitions give as a form: its labels are none."""

_LARGEST_TABLE = 1 << 30
"""Bytes of a table that is still read: ten million rows."""


@dataclass(frozen=True, slots=True)
class LabelTable:
    """The class of each file, by the file's name as the table has it, with or without folders and its ending."""

    name: str
    labels: dict[str, str]

    @property
    def decides(self) -> bool:
        """Whether it is called so that it counts more than folders do: as the answer of a user who was asked."""
        return self.name.lower() in ("labels.csv", "labels.tsv")

    def match(self, entries: Iterable[Entry]) -> list[tuple[Entry, str]]:
        """Return the files that the table names, with their classes; DataError if a row fits several files."""
        listed = list(entries)
        known = _by_name(listed)
        found: dict[int, tuple[Entry, str]] = {}
        for name, label in self.labels.items():
            fitting = known.get(_key(name), [])
            if len(fitting) > 1:
                both = " and ".join(readable(entry.name) for entry in fitting[:2])
                raise DataError(f"{self.name} names {name}, which may be {both}: give the folder as well")
            for entry in fitting:
                found[entry.place] = entry, label
        return [found[place] for place in sorted(found)]


def is_table(name: str) -> bool:
    """Whether a file of this name may be a table of labels."""
    return name.lower().endswith(ENDINGS) and not _SUBMISSION.search(name)


def read_table(name: str, content: bytes) -> LabelTable | None:
    """Return the table, None if it has no column of files or none of classes; DataError if a file has two classes."""
    if len(content) > _LARGEST_TABLE:
        raise DataError(f"{name} has {len(content):,} bytes, at most {_LARGEST_TABLE:,} are read: split it into parts")
    rows = _rows(content)
    columns = _columns(rows[0]) if rows else None
    if columns is None:
        return None
    file, label, first = columns
    labels: dict[str, str] = {}
    for row in rows[first:]:
        if len(row) <= max(file, label) or not row[file].strip() or not row[label].strip():
            continue
        image, own = row[file].strip(), readable(row[label].strip())
        if labels.setdefault(image, own) != own:
            raise DataError(f"{name} calls {image} {labels[image]} and {own}: give each image one row and one class")
    return LabelTable(name, labels)


def _rows(content: bytes) -> list[list[str]]:
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = content.decode("latin-1")
    lines = text.replace("\0", "").splitlines()
    first = next((line for line in lines if line.strip()), "")
    delimiter = max(",;\t", key=first.count)
    try:
        return [row for row in csv.reader(lines, delimiter=delimiter) if any(map(str.strip, row))]
    except csv.Error:  # a field of more than 128 KiB: no table of labels
        return []


def _columns(header: Sequence[str]) -> tuple[int, int, int] | None:
    """The column of files, that of classes, and the first row of values; None if there are no such columns."""
    names = [re.sub(r"\W+", "_", re.sub(r"(?<=[a-z])(?=[A-Z])", "_", cell.strip())).lower() for cell in header]
    files = sorted(filter(_FILES.fullmatch, names), key=len, reverse=True)  # image_path before image before id
    classes = sorted(filter(_CLASSES.fullmatch, names), key=len, reverse=True)  # label_name before label
    if len(names) == 2 and not (files and classes):
        if not files and not classes:  # no header
            return (0, 1, 0) if PurePosixPath(header[0]).suffix else None
        files, classes = files or [names[1 - names.index(classes[0])]], classes or [names[1 - names.index(files[0])]]
    return (names.index(files[0]), names.index(classes[0]), 1) if files and classes else None


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
