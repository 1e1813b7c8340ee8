"""What decoding costs, and how long a request that is admitted now would wait for it."""

from collections import defaultdict
from collections.abc import Mapping, Sequence

from models.images.image_type import image_type
from service.batching.decode_memory import DecodeMemory
from service.policy import NEWEST_WEIGHT, OUTLIER_FACTOR, UNKNOWN_NS_PER_BYTE


class DecodeEstimate:
    """The images that wait for a decoder or are in one, at what such images have cost.

    An image costs as much a byte as those of its type whose size was within a factor of two; where there was none, as
    those of the size that is nearest. What is known of smaller ones alone, which cost little for their bytes, makes a
    larger one no dearer than where nothing is known. As many are decoded at a time as there are threads, or as have
    memory, while others wait for theirs.
    """

    def __init__(self, threads: int, memory: DecodeMemory) -> None:
        self.wait_s = 0.0
        """Seconds until the decoders have done all that they hold."""
        self._threads, self._memory, self._held_ns = threads, memory, 0.0
        self._ns_per_byte: defaultdict[str | None, dict[int, float]] = defaultdict(dict)
        """By type and binary logarithm of the size."""

    def cost_ns(self, image: bytes) -> float:
        """How long decoding this image will take."""
        size, rates = len(image).bit_length(), self._ns_per_byte[image_type(image)]
        return len(image) * (rates[size] if size in rates else _rate_near(rates, size))

    def cost_s(self, images: Sequence[bytes]) -> float:
        """Seconds that decoding these images will take, one after the other."""
        return sum(map(self.cost_ns, images)) / 1e9

    def add(self, image: bytes) -> float:
        """An image waits: what it will cost, in ns."""
        cost_ns = self.cost_ns(image)
        self._hold(cost_ns)
        return cost_ns

    def remove(self, cost_ns: float) -> None:
        """An image that was added is decoded, or no longer wanted."""
        self._hold(-cost_ns)

    def observe(self, image: bytes, ns: int) -> None:
        """Decoding this image took so long."""
        size, rates, rate = len(image).bit_length(), self._ns_per_byte[image_type(image)], ns / max(1, len(image))
        known = rates.get(size, rate)
        rates[size] = known + NEWEST_WEIGHT * (min(rate, OUTLIER_FACTOR * known) - known)

    def _hold(self, cost_ns: float) -> None:
        self._held_ns = max(0.0, self._held_ns + cost_ns)
        self.wait_s = self._held_ns / 1e9 / self._at_once

    @property
    def _at_once(self) -> int:
        return max(1, self._memory.holders) if self._memory.waiting else self._threads


def _rate_near(rates: Mapping[int, float], size: int) -> float:
    """Nanoseconds a byte of an image of a size that is not known, from those that are."""
    if not rates:
        return UNKNOWN_NS_PER_BYTE
    nearest = min(rates, key=lambda known: abs(known - size))
    return rates[nearest] if nearest > size else min(rates[nearest], UNKNOWN_NS_PER_BYTE)
