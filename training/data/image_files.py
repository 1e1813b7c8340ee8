"""Labelled image files in a folder or an archive, read when they are needed."""

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from models.images.decoder import MAX_PIXELS, Preprocessor
from models.images.errors import ImageError
from models.images.preprocessing import Preprocessing
from models.machine.cores import usable_cores
from training.data.archives import READ_ERRORS, Entry, Store, readable
from training.data.dataset import ImageSet
from training.data.mapped_images import MappedSet, Room, allocate
from training.stages import Stages

_LARGEST_FILE = 1 << 28
"""Bytes of a file that is still read: photographs have a hundredth of that."""

_CHUNK_FILES = 512
"""Most files in memory at once: more than the cores need, few enough that their images come without a pause."""

_CHUNK_BYTES = 1 << 28
"""Most bytes of files in memory at once: those of the largest file, which has to fit anyhow."""

_Labelled = tuple[Entry, int]

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class _Unreadable:
    reason: str


@dataclass(frozen=True, slots=True)
class FileSet:
    """Files that should be images, with labels int64 [n], which index `classes`.

    `unreadable` is filled by reading: the name of each file that is no image, and the reason. `notes` say what else
    the user should know of where they lie.
    """

    store: Store
    entries: tuple[Entry, ...]
    labels: Tensor
    classes: tuple[str, ...]
    unreadable: dict[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.entries)

    def take(self, indices: Tensor) -> "FileSet":
        """Return the files at these indices."""
        entries = tuple(self.entries[index] for index in indices.tolist())
        return replace(self, entries=entries, labels=self.labels[indices])

    def read(self, make: Callable[[bytes], _T]) -> Iterator[tuple[Entry, int, _T]]:
        """Yield each file, its label and what `make` makes of its content, in the store's order.

        `make` is called on threads, and raises ImageError for what is no image: such files are passed over.
        """
        pairs = sorted(zip(self.entries, self.labels.tolist(), strict=True), key=lambda pair: pair[0].place)
        with self.store.opened() as read, ThreadPoolExecutor(usable_cores()) as pool:
            for chunk in _chunks(pairs):
                # No name for the list of files: each is let go when it is decoded, none stays for the next chunk.
                made = pool.map(lambda file: _make(make, file), [_read(read, entry) for entry, _ in chunk])
                for (entry, label), result in zip(chunk, made, strict=True):
                    if isinstance(result, _Unreadable):
                        self.unreadable[readable(entry.name)] = result.reason
                    else:
                        yield entry, label, result

    def pixels(self, preprocessing: Preprocessing) -> Iterator[tuple[NDArray[np.uint8], int]]:
        """Yield pixels [h, w, c], as a server would see them, and label of each image, in the store's order."""
        return ((pixels, label) for _, label, pixels in self.read(Preprocessor(preprocessing, MAX_PIXELS)))

    def allocate(self, preprocessing: Preprocessing, folder: Path | None = None) -> Room:
        """Return room for all images in a nameless file in this folder, or that of temporary files.

        DataError if there is none.
        """
        height, width, channels = preprocessing.shape
        return allocate(folder, (len(self), channels, height, width))

    def decode(self, preprocessing: Preprocessing, room: Room | None = None, stages: Stages | None = None) -> ImageSet:
        """Return all images that can be read, in this room that was allocated for them, or in temporary files.

        DataError if there is none.
        """
        images, path = room or self.allocate(preprocessing)
        written, labels, names = images.numpy(), [], []
        read = self.read(Preprocessor(preprocessing, MAX_PIXELS))
        told = (stages or Stages()).track(read, f"decoding {len(self):,} images", len(self))
        for index, (entry, label, pixels) in enumerate(told):
            written[index] = pixels.transpose(2, 0, 1)
            labels.append(label)
            names.append(readable(entry.name))
        whole = torch.tensor(labels, dtype=torch.int64)
        return MappedSet(images[: len(labels)], whole, self.classes, names=tuple(names), path=path)


def _chunks(pairs: Iterable[_Labelled]) -> Iterator[list[_Labelled]]:
    """The same in their order, in lists that are read at once: at most _CHUNK_FILES, and _CHUNK_BYTES altogether."""
    chunk: list[_Labelled] = []
    held = 0
    for pair in pairs:
        size = _bytes_read(pair[0])
        if chunk and (len(chunk) == _CHUNK_FILES or held + size > _CHUNK_BYTES):
            yield chunk
            chunk, held = [], 0
        chunk.append(pair)
        held += size
    if chunk:
        yield chunk


def _bytes_read(entry: Entry) -> int:
    return entry.size if entry.size <= _LARGEST_FILE else 0


def _read(read: Callable[[Entry], bytes], entry: Entry) -> bytes | _Unreadable:
    """The file's content, or why there is none."""
    if entry.size > _LARGEST_FILE:
        return _Unreadable(f"{entry.size:,} bytes, at most {_LARGEST_FILE:,} are read")
    try:
        return read(entry)
    except READ_ERRORS as error:
        return _Unreadable(getattr(error, "strerror", None) or str(error) or "it ends too early")


def _make(make: Callable[[bytes], _T], file: bytes | _Unreadable) -> _T | _Unreadable:
    """What is made of a file, or why it is nothing."""
    if isinstance(file, _Unreadable):
        return file
    try:
        return make(file)
    except ImageError as error:
        return _Unreadable(str(error))
