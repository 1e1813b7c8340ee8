"""What encoded images say before they are decoded, and what must not reach a decoder.

Pillow parses containers in Python, block by block: ten megabytes of empty blocks hold it for seconds, and of
compressed colour profiles for half a minute. These functions bound that; they raise ValueError.
"""

import struct
from typing import Literal

ImageType = Literal["png", "jpeg", "webp", "bmp", "gif"]

_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_PNG_CHUNKS_USED = frozenset({b"IHDR", b"PLTE", b"tRNS", b"eXIf", b"IDAT", b"IEND"})
_PNG_CHUNK = struct.Struct(">I4s")
_ORIENTATION, _SHORT = 0x0112, 3
_EXIF = b"Exif\0\0"
# APP1 to APP13, APP15, comments: all but JFIF (APP0) and Adobe (APP14), which tell how colour is coded.
_JPEG_UNUSED = frozenset(bytes((0xFF, code)) for code in (*range(0xE1, 0xEE), 0xEF, 0xFE))
_JPEG_SCAN = b"\xff\xda"
_JPEG_SEQUENTIAL_FRAMES = (b"\xff\xc0", b"\xff\xc1", b"\xff\xc9")

# Limits, about ten times what cameras and editors write.
_MAX_PNG_CHUNKS = 16_384
_MAX_JPEG_SEGMENTS = 4_096
_MAX_JPEG_SCANS = 100
_MAX_GIF_HEAD = 256 * 1024  # bytes
_MAX_BMP_RUNS = 256 * 1024  # bytes


def image_type(data: bytes) -> ImageType | None:
    """The type that the magic bytes tell, None if they are of none of these types."""
    if data.startswith(_PNG_SIGNATURE):
        return "png"
    if data.startswith(b"\xff\xd8\xff"):
        return "jpeg"
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "webp"
    if data.startswith((b"GIF87a", b"GIF89a")):
        return "gif"
    if data.startswith(b"BM"):
        return "bmp"
    return None


def still_png(data: bytes) -> bytes:
    """The PNG with only what its still picture needs: no animation, text, profiles, or anything behind its end."""
    kept = []
    start, everything = len(_PNG_SIGNATURE), True
    for _ in range(_MAX_PNG_CHUNKS):
        if start + _PNG_CHUNK.size > len(data):
            break
        length, kind = _PNG_CHUNK.unpack_from(data, start)
        end = start + 12 + length
        if kind in _PNG_CHUNKS_USED:
            kept.append((start, end))
        else:
            everything = False
        start = end
        if kind == b"IEND":
            break
    else:
        raise ValueError(f"more than {_MAX_PNG_CHUNKS} chunks")
    if everything:
        return data[:start]
    return _PNG_SIGNATURE + b"".join(data[start:end] for start, end in kept)


def bare_jpeg(data: bytes) -> tuple[bytes, bytes]:
    """The JPEG without what applications added, colour transforms excepted; and the EXIF block, empty if none."""
    kept, exif = [b"\xff\xd8"], b""
    position, components = 2, 0
    for _ in range(_MAX_JPEG_SEGMENTS):
        marker = data[position : position + 2]
        if marker == _JPEG_SCAN or marker[:1] != b"\xff":
            break
        if marker == b"\xff\xff":  # padding
            position += 1
            continue
        alone = b"\xff\xd0" <= marker <= b"\xff\xd9" or marker in (b"\xff\x00", b"\xff\x01")
        end = position + 2 + (0 if alone else _big(data[position + 2 : position + 4]))
        if marker in _JPEG_SEQUENTIAL_FRAMES:
            components = _big(data[position + 9 : position + 10])
        if marker not in _JPEG_UNUSED:
            kept.append(data[position:end])
        elif marker == b"\xff\xe1" and data.startswith(_EXIF, position + 4):
            exif = data[position + 4 : end]
        position = end
    else:
        raise ValueError(f"more than {_MAX_JPEG_SEGMENTS} segments")
    # A sequential picture with all components in its first scan has no other; to count them takes 1 ns a byte.
    single_scan = components == _big(data[position + 4 : position + 5])
    if not single_scan and data.count(_JPEG_SCAN) > _MAX_JPEG_SCANS:
        raise ValueError(f"more than {_MAX_JPEG_SCANS} scans")
    return b"".join(kept) + data[position:], exif


def jpeg_frame(data: bytes) -> tuple[int, int, bool]:
    """Width, height, and whether the picture comes in several passes (progressive)."""
    position = 2
    for _ in range(_MAX_JPEG_SEGMENTS):
        marker = data[position : position + 2]
        if len(marker) < 2 or marker[:1] != b"\xff" or marker == _JPEG_SCAN:
            break
        if marker == b"\xff\xff":  # padding
            position += 1
            continue
        if 0xC0 <= marker[1] <= 0xCF and marker[1] not in (0xC4, 0xC8, 0xCC):  # a frame; the three are tables
            height, width = _big(data[position + 5 : position + 7]), _big(data[position + 7 : position + 9])
            return width, height, marker not in _JPEG_SEQUENTIAL_FRAMES
        alone = b"\xff\xd0" <= marker <= b"\xff\xd9" or marker in (b"\xff\x00", b"\xff\x01")
        position += 2 + (0 if alone else _big(data[position + 2 : position + 4]))
    raise ValueError("no frame where one must begin")


def check_bmp(data: bytes) -> None:
    """Refuse a large BMP of the run-length encoded kinds, which Pillow decodes in Python."""
    if len(data) > _MAX_BMP_RUNS and _little(data[30:34]) in (1, 2):
        raise ValueError(f"run-length encoded and over {_MAX_BMP_RUNS} bytes")


def webp_size(data: bytes) -> tuple[int, int]:
    """Width and height of the canvas, which Pillow allocates twice before it tells its size."""
    chunk, body = data[12:16], data[20:30]
    if chunk == b"VP8X" and len(body) == 10:
        return _little(body[4:7]) + 1, _little(body[7:10]) + 1
    if chunk == b"VP8 " and body[3:6] == b"\x9d\x01\x2a":
        return _little(body[6:8]) & 0x3FFF, _little(body[8:10]) & 0x3FFF
    if chunk == b"VP8L" and body[:1] == b"\x2f":
        sizes = _little(body[1:5])
        return (sizes & 0x3FFF) + 1, (sizes >> 14 & 0x3FFF) + 1
    raise ValueError("no WebP bitstream where one must begin")


def gif_size(data: bytes) -> tuple[int, int]:
    """Width and height of the screen, widened to hold the first frame.

    Pillow widens it before it tells the size, and warns when that is huge.
    """
    width, height = _little(data[6:8]), _little(data[8:10])
    start = _first_gif_frame(data[:_MAX_GIF_HEAD])
    left, top, frame_width, frame_height = (_little(data[at : at + 2]) for at in range(start, start + 8, 2))
    return max(width, left + frame_width), max(height, top + frame_height)


def exif_orientation(exif: bytes) -> int:
    """1 to 8, as EXIF 2.3 numbers them; 1, upright, where a block holds no valid orientation.

    Pillow's reader parses every tag, and prints warnings about damaged ones.
    """
    tiff = exif.removeprefix(_EXIF)
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(tiff[:4])
    if order is None or len(tiff) < 8:
        return 1
    (start,) = struct.unpack_from(order + "I", tiff, 4)
    entries = tiff[start + 2 :]
    count = min(*struct.unpack(order + "H", tiff[start : start + 2].ljust(2, b"\0")), len(entries) // 12)
    for tag, kind, _, value in struct.iter_unpack(order + "HHIHxx", entries[: count * 12]):
        if tag == _ORIENTATION and kind == _SHORT and 1 <= value <= 8:
            return int(value)
    return 1


def _first_gif_frame(head: bytes) -> int:
    """Where the first frame's position and size stand, behind the header, the global palette and extensions."""
    flags = head[10] if len(head) > 10 else 0
    position = 13 + (3 << (flags & 7) + 1 if flags & 0x80 else 0)
    while head[position : position + 1] == b"!":
        position += 2
        while length := _little(head[position : position + 1]):
            position += 1 + length
        position += 1
    if head[position : position + 1] != b",":
        raise ValueError("no frame where one must begin")
    return position + 1


def _big(data: bytes) -> int:
    return int.from_bytes(data)


def _little(data: bytes) -> int:
    return int.from_bytes(data, "little")
