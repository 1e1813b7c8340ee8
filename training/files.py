"""Labelled image files in a folder or an archive, read when they are needed."""

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from models.cores import usable_cores
from models.metadata import Preprocessing
from models.preprocess import MAX_PIXELS, ImageError, Preprocessor
from training.data import ImageSet
from training.errors import DataError
from training.store import READ_ERRORS, Entry, Store

_LARGEST_FILE = 1 << 28  # bytes; photographs have a hundredth of it
_CHUNK = 512  # files whose bytes are in memory at once
_MEMORY_SHARE = 0.8  # of the machine's: the rest is for the network and everybody else


@dataclass(frozen=True, slots=True)
class FileSet:
    """Files that should be images, with labels int64 [n], which index `classes`.

    `unreadable` gathers what reading finds: the name of each file that is no image, and the reason.
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

    def decode(self, preprocessing: Preprocessing) -> ImageSet:
        """Return all images that can be read, in memory; DataError if there is not enough of it."""
        height, width, channels = preprocessing.shape
        _check_memory(len(self) * height * width * channels, f"{len(self):,} images of {width}x{height} pixels")
        images = np.empty((len(self), channels, height, width), np.uint8)
        labels = []
        for index, (pixels, label) in enumerate(self.pixels(preprocessing)):
            images[index] = pixels.transpose(2, 0, 1)
            labels.append(label)
        return ImageSet(torch.from_numpy(images[: len(labels)]), torch.tensor(labels, dtype=torch.int64), self.classes)


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


def _check_memory(needed: int, what: str) -> None:
    there = _memory()
    if needed > _MEMORY_SHARE * there:
        raise DataError(
            f"{what} take {needed:,} bytes of memory, {there:,} are there: images are held in memory while training; "
            "take fewer, or a smaller image_size in the recipe"
        )


def _memory() -> int:
    """Bytes of memory that this machine has, or this container is allowed."""
    machine = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    try:
        return min(machine, int(Path("/sys/fs/cgroup/memory.max").read_text()))
    except (OSError, ValueError):  # no such limit; it reads "max" where there is none
        return machine
