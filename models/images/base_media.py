"""How large the pictures in an AVIF or HEIC file are, by its boxes (ISO 14496-12 and 23008-12)."""

from collections.abc import Iterator

from models.images.errors import CorruptImage
from models.images.picture import Size

_MAX_BOXES = 4_096  # at one level; phones write some sixty tiles

_FULL = 4  # bytes of version and flags in front of some boxes' content


def largest_picture(data: bytes) -> Size:
    """Width and height of the largest picture that is described; CorruptImage if there is none."""
    sizes = [
        (int.from_bytes(data[at + _FULL : at + _FULL + 4]), int.from_bytes(data[at + _FULL + 4 : at + _FULL + 8]))
        for meta in _boxes(data, 0, len(data), b"meta")
        for properties in _boxes(data, meta[0] + _FULL, meta[1], b"iprp")
        for container in _boxes(data, *properties, b"ipco")
        for at, _ in _boxes(data, *container, b"ispe")
    ]
    if not sizes:
        raise CorruptImage("it ends before its picture begins")
    return max(sizes, key=lambda size: size[0] * size[1])


def _boxes(data: bytes, start: int, end: int, kind: bytes) -> Iterator[tuple[int, int]]:
    """Where the content of each box of a kind begins and ends."""
    for _ in range(_MAX_BOXES):
        if start + 8 > end:
            return
        size, head = int.from_bytes(data[start : start + 4]), 8
        if size == 1:
            size, head = int.from_bytes(data[start + 8 : start + 16]), 16
        stop = start + size if size else end
        if stop < start + head or stop > end:
            return
        if data[start + 4 : start + 8] == kind:
            yield start + head, stop
        start = stop
    raise CorruptImage(f"it has more than {_MAX_BOXES} boxes")
