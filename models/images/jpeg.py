"""JPEG files: what a decoder needs of them, and what they say of themselves.

Pillow parses segments in Python, one by one: ten megabytes of empty ones hold it for seconds. These functions bound
that.
"""

import re
from collections.abc import Iterator
from typing import NamedTuple

from models.images.errors import CorruptImage

_EXIF, _XMP = b"Exif\0\0", b"http://ns.adobe.com/xap/1.0/\0"
# APP1 to APP13, APP15, comments: all but JFIF (APP0) and Adobe (APP14), which tell how colour is coded.
_UNUSED = frozenset(bytes((0xFF, code)) for code in (*range(0xE1, 0xEE), 0xEF, 0xFE))
_START, _APP1, _SCAN, _END = b"\xff\xd8", b"\xff\xe1", b"\xff\xda", b"\xff\xd9"
_ALONE = frozenset(bytes((0xFF, code)) for code in (0, 1, *range(0xD0, 0xDA)))  # markers without a length
_SEQUENTIAL_FRAMES = (b"\xff\xc0", b"\xff\xc1", b"\xff\xc9")
_UNUSUAL_FRAMES = frozenset(bytes((0xFF, code)) for code in (0xC3, 0xC5, 0xC6, 0xC7, 0xCB, 0xCD, 0xCE, 0xCF))
_BITS = 8  # of a sample
_TABLES = (0xC4, 0xC8, 0xCC)  # among the codes of frames
_MARKER = re.compile(rb"\xff[^\x00\x01\xff\xd0-\xd7]")  # in coded data: no stuffing, filling or restart
_COEFFICIENTS = 64  # of a block

# Limits, about ten times what cameras and editors write.
_MAX_SEGMENTS = 4_096
_MAX_SCANS = 100


class JpegFrame(NamedTuple):
    """What the frame header declares."""

    width: int
    height: int
    components: int
    progressive: bool
    """Whether the picture comes in several passes."""


class BareJpeg(NamedTuple):
    """A JPEG without what applications added, colour transforms excepted."""

    data: bytes
    """With an end marker, also if the file has none."""
    ended: bool
    """Whether the file has one."""
    progressive: bool
    exif: list[bytes]
    """The EXIF blocks, in their order."""
    xmp: bytes


def bare_jpeg(data: bytes, *, alone: bool = False) -> BareJpeg:
    """The picture; CorruptImage if it has too many parts, lacks a pass over its rows, or is of a rare kind.

    Others may stand behind its end, which no decoder reads, unless it is to be `alone`: to find the end of one that has
    a single scan takes a look at every byte.
    """
    kept: list[bytes | memoryview] = [_START]
    exif, xmp, frame = [], b"", None
    for marker, start, end in _segments(data):
        if marker == _SCAN:
            break
        if _is_frame(marker):
            _check_kind(marker, _big(data[start + 4 : start + 5]))
            frame = _frame(data, start)
        if marker not in _UNUSED:
            kept.append(data[start:end])
        elif marker == _APP1 and data.startswith(_EXIF, start + 4):
            exif.append(data[start + 4 : end])
        elif marker == _APP1 and data.startswith(_XMP, start + 4):
            xmp = data[start + 4 : end]
    else:
        raise CorruptImage("it ends before its picture begins")
    if frame is None or not frame.height:  # which may be told behind the first scan (DNL); no decoder reads it there
        raise CorruptImage("its picture has no size: save it anew")
    stop = _end_of_picture(data, start, frame, alone)
    ended = stop >= 0
    if not ended:
        stop = len(data) - data.endswith(b"\xff")  # half a marker
    return BareJpeg(b"".join([*kept, memoryview(data)[start:stop], _END]), ended, frame.progressive, exif, xmp)


def jpeg_frame(data: bytes) -> JpegFrame:
    """The frame header; CorruptImage if there is none where it must be."""
    for marker, start, _ in _segments(data):
        if _is_frame(marker):
            return _frame(data, start)
    raise CorruptImage("its picture has no size")


def _segments(data: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Marker, start and end of each segment up to the header of the first scan."""
    position = len(_START)
    for _ in range(_MAX_SEGMENTS):
        start = data.find(b"\xff", position)
        marker = data[start : start + 2]
        if start < 0 or len(marker) < 2:
            return
        if marker == b"\xff\xff":  # padding
            position = start + 1
            continue
        position = start + 2 + (0 if marker in _ALONE else _big(data[start + 2 : start + 4]))
        yield marker, start, position
        if marker == _SCAN:
            return
    raise CorruptImage(f"it has more than {_MAX_SEGMENTS} segments")


def _end_of_picture(data: bytes, start: int, frame: JpegFrame, alone: bool) -> int:
    """Where an end marker stands behind the first scan, which begins at `start`; -1 if there is none."""
    if not frame.progressive and frame.components == _big(data[start + 4 : start + 5]):  # the scan is the only one
        return len(data) - len(_END) if data.endswith(_END) and not alone else data.find(_END, start)
    told: set[tuple[int, int]] = set()  # components and their coefficients of which the last bit is there
    position, scans = start, 0
    for _ in range(_MAX_SEGMENTS):
        found = _MARKER.search(data, position)
        if found is None:
            if len(told) < frame.components * _COEFFICIENTS:
                raise CorruptImage("it is cut off: whole passes over the picture are missing")
            return -1
        if found[0] == _END:
            return found.start()
        position = found.end() + _big(data[found.end() : found.end() + 2])
        if found[0] == _SCAN:
            told.update(_told_by(data[found.end() + 2 : position]))
            scans += 1
            if scans > _MAX_SCANS:
                raise CorruptImage(f"it has more than {_MAX_SCANS} scans")
    raise CorruptImage(f"it has more than {_MAX_SEGMENTS} segments")


def _told_by(scan: bytes) -> Iterator[tuple[int, int]]:
    """Of which components and coefficients a scan's header announces the last bit (ITU-T T.81, B.2.3)."""
    count = _big(scan[:1])
    identifiers, rest = scan[1 : 1 + 2 * count : 2], scan[1 + 2 * count :]
    if len(rest) == 3 and not rest[2] & 15:
        for coefficient in range(rest[0], min(rest[1] + 1, _COEFFICIENTS)):
            yield from ((identifier, coefficient) for identifier in identifiers)


def _is_frame(marker: bytes) -> bool:
    return 0xC0 <= marker[1] <= 0xCF and marker[1] not in _TABLES


def _check_kind(marker: bytes, bits: int) -> None:
    """CorruptImage for kinds that no decoder here reads: medical and scientific ones."""
    if marker in _UNUSUAL_FRAMES:
        raise CorruptImage("it is lossless or hierarchical: save it as a usual JPEG")
    if bits != _BITS:
        raise CorruptImage(f"it has {bits} bits a sample: save it with {_BITS}")


def _frame(data: bytes, start: int) -> JpegFrame:
    height, width = _big(data[start + 5 : start + 7]), _big(data[start + 7 : start + 9])
    return JpegFrame(
        width, height, _big(data[start + 9 : start + 10]), data[start : start + 2] not in _SEQUENTIAL_FRAMES
    )


def _big(data: bytes) -> int:
    return int.from_bytes(data)
