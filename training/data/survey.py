"""What there is in an image folder, seen by reading every file once."""

import hashlib
import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from io import BytesIO

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from PIL.ImageFile import ImageFile

from models.images.decoder import MAX_PIXELS, Preprocessor
from models.images.headers import bare_gif
from models.images.image_type import ImageType, image_type
from models.images.jpeg import bare_jpeg
from models.images.png import still_png
from training.data.archives import readable
from training.data.image_files import FileSet
from training.data.labelling import Unlabelled
from training.data.layout import Layout
from training.data.preprocessing_spec import spec_of_files

THUMBNAIL = 64
"""Side of a sample, in pixels."""

SAMPLES = 8
"""Pictures of each class that are kept as samples."""

_QUARTER = 1 << 14
"""A quarter of the range of 16 bits: of the 256 levels that are decoded less than 64 are left below it."""

_DIGEST_BYTES = 16
"""Bytes of a file's digest: enough that no two files have the same by chance."""

_BARE: dict[ImageType, Callable[[bytes], bytes]] = {
    "png": lambda data: still_png(data).data,
    "jpeg": lambda data: bare_jpeg(data, alone=True).data,
    "gif": bare_gif,
}
"""What of a file reaches a decoder."""


@dataclass(slots=True)
class PartSurvey:
    """The images of a part: how many of each class, their sizes, modes as Pillow calls them, and files that are none.

    `dim` have 16 bits and only values below a quarter of these, as cameras of 10 or 12 bits write them.

    `counts` has an entry for each class, also for those without a readable image; pictures without classes are of "".
    """

    name: str
    counts: Counter[str] = field(default_factory=Counter)
    sizes: list[tuple[int, int]] = field(default_factory=list)
    modes: Counter[str] = field(default_factory=Counter)
    dim: int = 0
    unreadable: Mapping[str, str] = field(default_factory=dict)
    samples: dict[str, list[NDArray[np.uint8]]] = field(default_factory=dict)

    def sizes_by_area(self) -> list[tuple[int, int]]:
        """Return the smallest, the median and the largest width and height; nothing if there is no image."""
        ordered = sorted(self.sizes, key=math.prod)
        return [ordered[0], ordered[len(ordered) // 2], ordered[-1]] if ordered else []


@dataclass(frozen=True, slots=True)
class Survey:
    """The parts of a data set, and groups of files with the same bytes: in other parts, or of other classes."""

    parts: tuple[PartSurvey, ...]
    duplicates: tuple[tuple[str, ...], ...]


@dataclass(frozen=True, slots=True)
class _Seen:
    digest: bytes
    size: tuple[int, int]
    mode: str
    is_dim: bool
    thumbnail: NDArray[np.uint8]


def survey(layout: Layout) -> Survey:
    """Read all files of a data set; DataError if its folder or archive cannot be read."""
    same: dict[bytes, list[tuple[str, str, str]]] = {}
    parts = []
    for part, held in layout.parts.items():
        files = _without_classes(held) if isinstance(held, Unlabelled) else held
        parts.append(_survey_part(part or "all", files, same))
    twins = (group for group in same.values() if len({(part, label) for part, label, _ in group}) > 1)
    return Survey(tuple(parts), tuple(tuple(name for _, _, name in group) for group in twins))


def _survey_part(name: str, files: FileSet, same: dict[bytes, list[tuple[str, str, str]]]) -> PartSurvey:
    found = PartSurvey(name, Counter(dict.fromkeys(files.classes, 0)), unreadable=files.unreadable)
    sampled = set(_sampled_places(files))
    for entry, label, seen in files.read(_Looking()):
        class_name = files.classes[label]
        found.counts[class_name] += 1
        found.sizes.append(seen.size)
        found.modes[seen.mode] += 1
        found.dim += seen.is_dim
        same.setdefault(seen.digest, []).append((name, class_name, readable(entry.name)))
        if entry.place in sampled:
            found.samples.setdefault(class_name, []).append(seen.thumbnail)
    return found


def _without_classes(held: Unlabelled) -> FileSet:
    return FileSet(held.store, held.entries, torch.zeros(len(held), dtype=torch.int64), ("",))


def _sampled_places(files: FileSet) -> Iterator[int]:
    """The places of a few files of each class, evenly spread: neighbours are often of one series."""
    for label in range(len(files.classes)):
        indices = (files.labels == label).nonzero().flatten()
        chosen = indices[:: -(-len(indices) // SAMPLES) or 1]
        yield from (files.entries[index].place for index in chosen.tolist())


class _Looking:
    """Makes of a file what is told of it; ImageError if it is no image for training."""

    def __init__(self) -> None:
        self._decode = Preprocessor(spec_of_files(3, THUMBNAIL), MAX_PIXELS)

    def __call__(self, data: bytes) -> _Seen:
        thumbnail = self._decode(data)
        digest = hashlib.blake2b(data, digest_size=_DIGEST_BYTES).digest()
        with _opened(data) as image:
            return _Seen(digest, image.size, image.mode, _is_dim(image), thumbnail)


def _is_dim(image: ImageFile) -> bool:
    return image.mode.startswith("I;16") and int(np.asarray(image).max()) < _QUARTER


def _opened(data: bytes) -> ImageFile:
    """What was decoded, by Pillow's reader of its type: `Image.open` refuses large JPEGs, and parts that are unused."""
    kind = image_type(data)
    assert kind is not None
    factory, _ = Image.OPEN[kind.upper()]
    return factory(BytesIO(_BARE.get(kind, bytes)(data)), "")
