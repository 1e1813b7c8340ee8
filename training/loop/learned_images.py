"""Which images a network has learned from, wherever these lie now and whatever they are called."""

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Protocol

import torch

from models.images.preprocessing import Preprocessing
from training.data.archives import readable
from training.data.dataset import ImageSet
from training.data.fingerprint import Fingerprint, checksum, checksums, names
from training.data.preprocessing_spec import spec_of_files
from training.data.sources import Images

_MOST_DECODED = 2_000
"""Files that are looked at, spread over all: they are decoded for it, some ten seconds of photographs."""

_BY_CHANCE = 1e-3
"""Share of images that may look as if they were learned: data sets hold a few twice, and checksums have 32 bits."""


class Learner(Protocol):
    """What has learned; `fingerprints` are of the images it was trained on, and those held back; None if not known."""

    @property
    def labels(self) -> tuple[str, ...]:
        """The name of each class."""
        ...

    @property
    def preprocessing(self) -> Preprocessing:
        """What a server makes of pictures."""
        ...

    @property
    def fingerprints(self) -> Sequence[Fingerprint] | None:
        """Which images the run was of."""
        ...


def count_learned(images: Images, learner: Learner) -> int:
    """Return how many images at least have pixels and class of one that was trained on; 0 for what may be chance.

    Of thousands of files some are looked at. Those that were held back then do not count, if others that were not look
    like them.
    """
    if not learner.fingerprints:
        return 0
    trained, *held_back = learner.fingerprints
    learned = set(checksums(trained))
    looked_at = [image in learned for image in _not_held_back(images, learner, held_back)]
    count = sum(looked_at)
    return count if count > _BY_CHANCE * len(looked_at) else 0


def _not_held_back(images: Images, learner: Learner, held_back: Sequence[Fingerprint]) -> Iterator[tuple[int, int]]:
    """Class and checksum of each image but those that were held back: files by their names, which need no decoding."""
    places = {index: learner.labels.index(name) for index, name in enumerate(images.classes) if name in learner.labels}
    if isinstance(images, ImageSet):
        known = Counter(image for each in held_back for image in checksums(each))
        pairs = zip(images.labels.tolist(), map(checksum, images.images.numpy()), strict=True)
        found = Counter((places.get(label, -1), value) for label, value in pairs)
        yield from (found - known).elements()
        return
    skipped = {name for each in held_back for name in names(each)}
    kept = [index for index, entry in enumerate(images.entries) if readable(entry.name) not in skipped]
    rest = images.take(torch.tensor(kept[:: max(1, len(kept) // _MOST_DECODED)], dtype=torch.int64))
    # Networks are trained on the whole of what is resized, and judged by the crop of it.
    spec = spec_of_files(learner.preprocessing.channels, learner.preprocessing.resize)
    for pixels, label in rest.pixels(spec):
        yield places.get(label, -1), checksum(pixels.transpose(2, 0, 1))
