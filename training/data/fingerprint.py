"""Which images a run is of: enough to notice that some were added, removed or changed since."""

import zlib
from collections import Counter
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from training.data.dataset import ImageSet


def fingerprint(images: ImageSet) -> Tensor:
    """Return the label and the CRC-32 of the pixels of each image, int64 [n, 2]."""
    sums = [zlib.crc32(image.numpy()) for image in images.images.contiguous()]
    return torch.stack([images.labels, torch.tensor(sums, dtype=torch.int64)], dim=1)


def differences(before: Sequence[Tensor], now: Sequence[Tensor], classes: Sequence[str]) -> Iterator[str]:
    """Yield how the images to train on and those held back are others than before, a class at a time."""
    was, is_now = (Counter(map(tuple, torch.cat(list(each)).tolist())) for each in (before, now))
    added, removed = _by_class(is_now - was), _by_class(was - is_now)
    for label in sorted(added | removed):
        changed = min(added[label], removed[label])
        counts = {"added": added[label] - changed, "removed": removed[label] - changed, "changed": changed}
        told = ", ".join(f"{count:,} {what}" for what, count in counts.items() if count)
        yield f"images of {classes[label]}: {told}"
    if was == is_now and not all(map(torch.equal, before, now)):
        yield "the images are the same, but called otherwise, so that others would be held back"


def _by_class(images: Counter[tuple[int, ...]]) -> Counter[int]:
    counts: Counter[int] = Counter()
    for (label, _), count in images.items():
        counts[label] += count
    return counts
