"""Decoded images in a file without a name, mapped into memory: the disk bounds them, and processes share them."""

import errno
import math
import mmap
import os
import shutil
import tempfile
import weakref
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

import numpy as np
import torch
from torch import Tensor

from models.images.preprocessing import Polarity
from training.data.dataset import ImageSet
from training.errors import DataError

_Shape = tuple[int, ...]

_NOT_WRITABLE = (errno.EROFS, errno.EACCES, errno.EPERM)
"""Where more room would not help."""

Room = tuple[Tensor, str]
"""Memory for images uint8 [n, c, h, w], mapped from a file, and its path."""


@dataclass(frozen=True, slots=True)
class MappedSet(ImageSet):
    """Images in a file that is gone as soon as no process maps it, even if the last one was killed.

    Pickled by one process and unpickled by another of the same machine, it is the same memory, not a copy: `path` is
    what the file is called as long as the process that pickles it holds `images`.
    """

    path: str = field(kw_only=True)

    def __reduce__(self) -> tuple[Callable[..., ImageSet], tuple[object, ...]]:
        """Leave the pixels where they are."""
        fields = self.labels, self.classes, self.polarity, self.names
        return _mapped_again, (self.path, tuple(self.images.shape), *fields)


def allocate(folder: Path | None, shape: _Shape) -> Room:
    """Return room for images uint8 [n, c, h, w] in a file in this folder, or that of temporary files.

    DataError says how much is needed and where, if the disk has no room for it, or that nothing can be written there.
    """
    place, size = folder or Path(tempfile.gettempdir()), math.prod(shape)
    try:
        return _map(_allocated(place, size), shape)
    except OSError as error:
        if error.errno in _NOT_WRITABLE:
            raise DataError(
                f"{place} cannot be written: {error.strerror}; give another folder, TMPDIR for that of temporary files"
            ) from error
        count, _, height, width = shape
        raise DataError(
            f"{count:,} images of {width}x{height} pixels take {size:,} bytes in {place}, which cannot be allocated "
            f"({error.strerror}): make room, or take fewer images, a smaller image_size, or another folder"
        ) from error


def _allocated(place: Path, size: int) -> IO[bytes]:
    if size > (free := shutil.disk_usage(place).free):
        raise OSError(errno.ENOSPC, f"{free:,} are free")
    file = tempfile.TemporaryFile(dir=place)  # noqa: SIM115 - lives as long as the images
    try:
        # Writing to a mapping of a full disk kills the process: allocate the blocks before.
        os.posix_fallocate(file.fileno(), 0, max(1, size))
    except OSError:
        file.close()
        raise
    return file


def _map(file: IO[bytes], shape: _Shape) -> Room:
    """Map the file, and close it once the mapping is no longer used."""
    try:
        memory = mmap.mmap(file.fileno(), 0)
    except OSError:
        file.close()
        raise
    weakref.finalize(memory, file.close)
    return torch.from_numpy(np.ndarray(shape, np.uint8, memory)), f"/proc/{os.getpid()}/fd/{file.fileno()}"


def _mapped_again(
    path: str,
    shape: _Shape,
    labels: Tensor,
    classes: tuple[str, ...],
    polarity: Polarity,
    names: tuple[str, ...],
) -> MappedSet:
    images, own_path = _map(Path(path).open("r+b"), shape)  # noqa: SIM115 - lives as long as the images
    return MappedSet(images, labels, classes, polarity, names, path=own_path)
