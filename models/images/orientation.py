"""Which way up a picture is meant to be seen, as EXIF and XMP tell it.

Read as Pillow's `exif_transpose` does, whose own reader parses every tag, and prints warnings about damaged ones.
"""

import re
import struct
from collections.abc import Sequence

UPRIGHT = 1
"""The orientation of an image that is stored as it is to be seen; EXIF numbers the others 2 to 8."""

_TAG = 0x0112
_FORMATS = {3: "Hxx", 4: "I", 8: "hxx", 9: "i"}  # TIFF 6.0: SHORT, LONG, SSHORT, SLONG
_ORDERS = {b"II*\0": "<", b"MM\0*": ">", b"II\0*": "<", b"MM*\0": ">"}  # the last two are a mistake that some make
_PREFIX = b"Exif\0\0"
_XMP = re.compile(rb'tiff:Orientation(?:="|>)([0-9])')


def orientation(exif: Sequence[bytes], xmp: bytes = b"") -> int:
    """1 to 8, as EXIF 2.3 numbers them; 1, upright, where nothing valid is told.

    `exif`: the blocks in their order. They are one, cut to the size of a segment; where that one tells nothing, the
    first that tells something by itself counts, as browsers have it. XMP counts where EXIF tells nothing.
    """
    whole = b"".join([exif[0], *(block.removeprefix(_PREFIX) for block in exif[1:])]) if exif else b""
    for block in (whole, *exif[1:]):
        value = _in_exif(block)
        if value is not None:
            break
    else:
        found = _XMP.search(xmp)
        value = int(found[1]) if found else UPRIGHT
    return value if 1 <= value <= 8 else UPRIGHT


def _in_exif(block: bytes) -> int | None:
    """What the first directory says, valid or not."""
    tiff = block.removeprefix(_PREFIX).removeprefix(_PREFIX)
    order = _ORDERS.get(tiff[:4])
    if order is None or len(tiff) < 8:
        return None
    (start,) = struct.unpack_from(order + "I", tiff, 4)
    entries = tiff[start + 2 :]
    count = min(*struct.unpack(order + "H", tiff[start : start + 2].ljust(2, b"\0")), len(entries) // 12)
    value = None
    for tag, kind, values, cell in struct.iter_unpack(order + "HHI4s", entries[: count * 12]):
        if tag == _TAG and values == 1 and kind in _FORMATS:
            (value,) = struct.unpack(order + _FORMATS[kind], cell)
    return value
