"""What the first page of a TIFF says, and what of it must not reach a decoder (TIFF 6.0; BigTIFF).

Pillow reads a directory in Python, entry by entry, with all that each points to, and makes an object for each strip.
These functions bound that; they raise CorruptImage.
"""

import struct
from typing import NamedTuple

from models.images.errors import CorruptImage
from models.images.orientation import UPRIGHT
from models.images.picture import Size

_WIDTH, _HEIGHT, _STRIPS, _ROWS_PER_STRIP = 0x100, 0x101, 0x111, 0x116
_ORIENTATION, _TILE_WIDTH, _TILE_HEIGHT, _TILES = 0x112, 0x142, 0x143, 0x144
_BITS, _SAMPLES = 0x102, 0x115
_SHAPE = {_WIDTH, _HEIGHT, _BITS, _SAMPLES, _STRIPS, _ROWS_PER_STRIP, _TILE_WIDTH, _TILE_HEIGHT, _TILES}
_TYPE_BYTES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8}
_INTEGERS = {1: "B", 3: "H", 4: "I", 16: "Q"}

# Limits, about ten times what scanners and editors write.
_MAX_ENTRIES = 512
_MAX_STRIPS = 16_384


class TiffPage(NamedTuple):
    """The first page."""

    size: Size
    tile: Size
    """Of each part that is decoded at once."""
    orientation: int | None
    """As its tag says, None if it has none."""
    data: bytes
    """The file, with that page said to be upright."""


class _Entry(NamedTuple):
    values: int
    """How many."""
    value: int
    """The first, if it stands in the entry itself and is an integer; else 0."""
    place: int
    """Where the value stands."""


def first_page(data: bytes) -> TiffPage:
    """What the first directory says; CorruptImage if it is too large, or its strips leave rows out."""
    entries = _entries(data)
    width, height = (_value(entries, tag) for tag in (_WIDTH, _HEIGHT))
    if not width or not height:
        raise CorruptImage("it ends before its picture begins")
    if any(tag in entries and not _value(entries, tag) for tag in (_TILE_WIDTH, _TILE_HEIGHT)):
        raise CorruptImage("its directory tells the size of its tiles in a way that is not known: save it anew")
    rows = min(_value(entries, _ROWS_PER_STRIP) or height, height)
    tile = _value(entries, _TILE_WIDTH) or width, _value(entries, _TILE_HEIGHT) or rows
    parts = max((entries[tag].values for tag in (_STRIPS, _TILES) if tag in entries), default=0)
    if parts > _MAX_STRIPS:
        raise CorruptImage(f"it has more than {_MAX_STRIPS} strips or tiles")
    if parts < -(-width // tile[0]) * -(-height // tile[1]):
        raise CorruptImage(f"its {parts} strips or tiles leave out a part of the picture")
    orientation = entries.get(_ORIENTATION)
    if orientation is None:
        return TiffPage((width, height), tile, None, data)
    upright = UPRIGHT.to_bytes(2, "little" if data.startswith(b"II") else "big")
    data = data[: orientation.place] + upright + data[orientation.place + 2 :]
    return TiffPage((width, height), tile, orientation.value if 1 <= orientation.value <= 8 else UPRIGHT, data)


def _value(entries: dict[int, _Entry], tag: int) -> int:
    return entries[tag].value if tag in entries and entries[tag].values == 1 else 0


def _entries(data: bytes) -> dict[int, _Entry]:
    """The first directory's, by their tags."""
    order = "<" if data.startswith(b"II") else ">"
    big = data[2:4] in (b"+\0", b"\0+")
    directory, count_format, entry_format, cell = (8, "Q", "HHQ", 8) if big else (4, "H", "HHI", 4)
    try:
        (start,) = struct.unpack_from(order + ("Q" if big else "I"), data, directory)
        (count,) = struct.unpack_from(order + count_format, data, start)
    except (struct.error, OverflowError):
        raise CorruptImage("it ends before its picture begins") from None
    if count > _MAX_ENTRIES:
        raise CorruptImage(f"its directory has more than {_MAX_ENTRIES} entries")
    position = start + struct.calcsize(order + count_format)
    step = struct.calcsize(order + entry_format)
    entries: dict[int, _Entry] = {}
    elsewhere = 0
    for _ in range(count):
        if position + step + cell > len(data):
            raise CorruptImage("it ends before its picture begins")
        tag, kind, values = struct.unpack_from(order + entry_format, data, position)
        if tag in entries and tag in _SHAPE:  # of which Pillow takes the last, and libtiff the first
            raise CorruptImage("its directory tells the picture's shape twice: save it anew")
        place = position + step
        size = values * _TYPE_BYTES.get(kind, 0)
        value = 0
        if size <= cell and values and kind in _INTEGERS:
            (value,) = struct.unpack_from(order + _INTEGERS[kind], data, place)
        entries[tag] = _Entry(values, value, place)
        if size > cell:
            (there,) = struct.unpack_from(order + ("Q" if big else "I"), data, place)
            elsewhere += size
            if there + size > len(data) or elsewhere > len(data):
                raise CorruptImage("its directory points to more than there is")
        position = place + cell
    return entries
