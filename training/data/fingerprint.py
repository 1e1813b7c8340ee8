"""Which images a run is of: enough to notice, and to name, those that were added, removed or changed since."""

import zlib
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from training.data.dataset import ImageSet

_MOST_NAMED = 3
"""Files that are told by name, of each kind and class."""

_MOST_CLASSES = 20
"""Classes whose images are told of, a line each; of more, how many there are."""

Fingerprint = dict[str, Tensor]
"""`images`: the label and the CRC-32 of the pixels of each image, int64 [n, 2]. `names`: those of their files, a line
each, UTF-8 compressed by zlib, uint8 [bytes]; of no bytes where images are no files."""


class _Image(NamedTuple):
    label: int
    checksum: int
    name: str


def fingerprint(images: ImageSet) -> Fingerprint:
    """Return what is kept of these images."""
    sums = [checksum(image.numpy()) for image in images.images]
    packed = zlib.compress("\n".join(images.names).encode()) if images.names else b""
    return {
        "images": torch.stack([images.labels, torch.tensor(sums, dtype=torch.int64)], dim=1),
        "names": torch.from_numpy(np.frombuffer(packed, np.uint8).copy()),
    }


def checksum(pixels: NDArray[np.uint8]) -> int:
    """Return the CRC-32 of pixels [c, h, w]."""
    return zlib.crc32(pixels.tobytes())


def checksums(images: Fingerprint) -> list[tuple[int, int]]:
    """Return label and CRC-32 of each image."""
    return [(label, value) for label, value in images["images"].tolist()]


def names(images: Fingerprint) -> list[str]:
    """Return the names of the files; none where images are no files."""
    packed = images["names"].numpy().tobytes()
    return zlib.decompress(packed).decode().split("\n") if packed else []


def differences(before: Sequence[Fingerprint], now: Sequence[Fingerprint], classes: Sequence[str]) -> Iterator[str]:
    """Yield how the images to train on and those held back are others than before, a class at a time.

    What lies elsewhere, or is called otherwise, is the same image as long as its pixels and its class are.
    """
    if _same(before, now):
        return
    was, is_now = (list(_images(each)) for each in (before, now))
    added, removed = _without_like(is_now, was), _without_like(was, is_now)
    labels = sorted({image.label for image in added + removed})
    for label in labels[:_MOST_CLASSES]:
        new, gone = (Counter(image.name for image in each if image.label == label) for each in (added, removed))
        changed = new & gone
        kinds = {"added": new - changed, "removed": gone - changed, "changed": changed}
        told = ", ".join(f"{some.total():,} {kind}{_examples(some)}" for kind, some in kinds.items() if some)
        yield f"images of {classes[label]}: {told}"
    if len(labels) > _MOST_CLASSES:
        yield f"images of {len(labels) - _MOST_CLASSES:,} more classes"
    if not added and not removed:
        yield "the images are the same, but called otherwise, so that others would be held back"


def _same(before: Sequence[Fingerprint], now: Sequence[Fingerprint]) -> bool:
    return len(before) == len(now) and all(
        torch.equal(was["images"], is_now["images"]) for was, is_now in zip(before, now, strict=True)
    )


def _images(sets: Sequence[Fingerprint]) -> Iterator[_Image]:
    for each in sets:
        pairs = checksums(each)
        yield from (_Image(*pair, name) for pair, name in zip(pairs, names(each) or [""] * len(pairs), strict=True))


def _without_like(these: Sequence[_Image], others: Sequence[_Image]) -> list[_Image]:
    """Those of these that no other has the pixels and the class of; of equal ones those that the others do not name."""
    left, known = Counter((image.label, image.checksum) for image in others), {image.name for image in others}
    found = []
    for image in sorted(these, key=lambda image: image.name not in known):
        if left[image.label, image.checksum]:
            left[image.label, image.checksum] -= 1
        else:
            found.append(image)
    return found


def _examples(counts: Counter[str]) -> str:
    """The first names in brackets; nothing where images have none."""
    named = sorted(filter(None, counts))
    more = ", ..." if len(named) > _MOST_NAMED else ""
    return f" ({', '.join(named[:_MOST_NAMED])}{more})" if named else ""
