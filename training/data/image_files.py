"""Labelled image files in a folder or an archive, read when they are needed."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from models.images.preprocessing import Preprocessing
from models.images.preprocessor import MAX_PIXELS, ImageError, Preprocessor
from models.machine.cores import usable_cores
from training.data.archives import READ_ERRORS, Entry, Store
from training.data.dataset import ImageSet
from training.data.mapped_images import MappedSet, allocate

_LARGEST_FILE = 1 << 28
"""Bytes of a file that is still read: photographs have a hundredth of that."""

_CHUNK = 512
"""Files whose bytes are in memory at once."""


@dataclass(frozen=True, slots=True)
class FileSet:
    """Files that should be images, with labels int64 [n], which index `classes`.

    `unreadable` is filled by reading: the name of each file that is no image, and the reason.
    """

    store: Store
    entries: tuple[Entry, ...]
    labels: Tensor
    classes: tuple[str, ...]
    unreadable: dict[str, str] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.entries)

    def take(self, indices: Tensor) -> "FileSet":
        """Return the files at these indices."""
        entries = tuple(self.entries[index] for index in indices.tolist())
        return FileSet(self.store, entries, self.labels[indices], self.classes, self.unreadable)

    def pixels(self, preprocessing: Preprocessing) -> Iterator[tuple[NDArray[np.uint8], int]]:
        """Yield pixels [h, w, c], as a server would see them, and label of each image, in the store's order."""
        decode = Preprocessor(preprocessing, MAX_PIXELS)
        pairs = iter(sorted(zip(self.entries, self.labels.tolist(), strict=True), key=lambda pair: pair[0].place))
        with self.store.opened() as read, ThreadPoolExecutor(usable_cores()) as pool:
            while chunk := list(islice(pairs, _CHUNK)):
                files = [_read(read, entry) for entry, _ in chunk]
                decoded = pool.map(lambda file: _decode(decode, file), files)
                for (entry, label), result in zip(chunk, decoded, strict=True):
                    if isinstance(result, str):
                        self.unreadable[entry.name] = result
                    else:
                        yield result, label

    def decode(self, preprocessing: Preprocessing, folder: Path | None = None) -> ImageSet:
        """Return all images that can be read, mapped from a nameless file in this folder, or that of temporary files.

        DataError if there is no room for them.
        """
        height, width, channels = preprocessing.shape
        images, path = allocate(folder, (len(self), channels, height, width))
        room, labels = images.numpy(), []
        for index, (pixels, label) in enumerate(self.pixels(preprocessing)):
            room[index] = pixels.transpose(2, 0, 1)
            labels.append(label)
        return MappedSet(images[: len(labels)], torch.tensor(labels, dtype=torch.int64), self.classes, path=path)


def _read(read: Callable[[Entry], bytes], entry: Entry) -> bytes | str:
    """The file's content, or why there is none."""
    if entry.size > _LARGEST_FILE:
        return f"{entry.size:,} bytes, at most {_LARGEST_FILE:,} are read"
    try:
        return read(entry)
    except READ_ERRORS as error:
        return str(error)


def _decode(decode: Preprocessor, file: bytes | str) -> NDArray[np.uint8] | str:
    """The image's pixels, or why there are none."""
    if isinstance(file, str):
        return file
    try:
        return decode(file)
    except ImageError as error:
        return str(error)
