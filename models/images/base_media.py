"""How large the pictures in an AVIF or HEIC file are and where they lie, by its boxes (ISO 14496-12 and 23008-12)."""

import math
from collections.abc import Iterator

from models.images.errors import CorruptImage
from models.images.picture import Size

_MAX_BOXES = 4_096  # at one level; phones write some sixty tiles

_EXTENT_COST = 64  # bytes that an extent counts as, beside its own
_FULL = 4  # bytes of version and flags in front of some boxes' content


def largest_picture(data: bytes) -> Size:
    """Width and height of the largest picture that is described; CorruptImage if there is none."""
    sizes = [
        (int.from_bytes(data[at + _FULL : at + _FULL + 4]), int.from_bytes(data[at + _FULL + 4 : at + _FULL + 8]))
        for at, _ in _boxes(data, *_first(data, *_first(data, *_meta(data), b"iprp"), b"ipco"), b"ispe")
    ]
    if not sizes:
        raise CorruptImage("it ends before its picture begins")
    return max(sizes, key=math.prod)


def items(data: bytes) -> Iterator[bytes]:
    """The content of each item; CorruptImage if they overlap so much that they are more than the file."""
    meta = _meta(data)
    stored = _first(data, *meta, b"idat")[0]
    left = len(data) + _EXTENT_COST * _MAX_BOXES
    for extents in _locations(data[slice(*_first(data, *meta, b"iloc"))], stored):
        parts = []
        for start, length in extents:
            parts.append(data[start : start + length if length else len(data)])
            left -= len(parts[-1]) + _EXTENT_COST
            if left < 0:
                raise CorruptImage("its boxes point to more than there is")
        yield b"".join(parts)


def _locations(box: bytes, stored: int) -> Iterator[list[tuple[int, int]]]:
    """Of each item, where its extents start in the file and how long they are; `stored`: where an idat box begins."""
    version, reader = box[0] if box else 0, _Fields(box, 4)
    offset_bytes, length_bytes = divmod(reader.take(1), 16)
    base_bytes, index_bytes = divmod(reader.take(1), 16)
    for _ in range(min(reader.take(4 if version == 2 else 2), _MAX_BOXES)):
        reader.take(4 if version == 2 else 2)
        in_idat = version > 0 and reader.take(2) & 15 == 1
        reader.take(2)
        base = reader.take(base_bytes) + (stored if in_idat else 0)
        extents = []
        for _ in range(min(reader.take(2), _MAX_BOXES)):
            reader.take(index_bytes if version else 0)
            extents.append((base + reader.take(offset_bytes), reader.take(length_bytes)))
        yield extents


class _Fields:
    """Reads numbers of so many bytes, one behind the other."""

    def __init__(self, data: bytes, position: int) -> None:
        self._data, self._position = data, position

    def take(self, count: int) -> int:
        self._position += count
        if self._position > len(self._data):
            raise CorruptImage("it ends before its picture begins")
        return int.from_bytes(self._data[self._position - count : self._position])


def _meta(data: bytes) -> tuple[int, int]:
    """Where the boxes that describe the pictures begin and end."""
    start, end = _first(data, 0, len(data), b"meta")
    return min(start + _FULL, end), end


def _first(data: bytes, start: int, end: int, kind: bytes) -> tuple[int, int]:
    """Where the content of the first box of a kind begins and ends; nowhere if there is none."""
    return next(_boxes(data, start, end, kind), (end, end))


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
