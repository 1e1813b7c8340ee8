"""What WebP, GIF and BMP files say before they are decoded, and what of them must not reach a decoder.

Pillow parses containers in Python, block by block, and allocates some canvases before it tells their size. These
functions bound that; they raise CorruptImage.
"""

import re
import struct

from models.images.errors import CorruptImage
from models.images.picture import Box, Size

# Limits, about ten times what cameras and editors write.
_MAX_GIF_HEAD = 256 * 1024  # bytes
_MAX_BMP_RUNS = 256 * 1024  # bytes

_WEBP_FLAGS = 20  # where those of a VP8X chunk stand
_WEBP_ALPHA, _WEBP_ANIMATION = 0x10, 0x02
_GIF_BLOCK = re.compile(rb"[!,;]")  # begins an extension, a frame, the end
_GIF_CONTROL, _GIF_CONTROL_BYTES = b"!\xf9\4", 8  # tells the transparent colour
_BMP_CORE = 12  # bytes of OS/2's header, whose sizes have 16 bits
_NO_PICTURE = "it ends before its picture begins"


def bmp_size(data: bytes) -> Size:
    """Width and height; a large BMP of the run-length encoded kinds is CorruptImage: Pillow decodes it in Python."""
    if len(data) > _MAX_BMP_RUNS and _little(data[30:34]) in (1, 2):
        raise CorruptImage(f"it is run-length encoded and over {_MAX_BMP_RUNS} bytes")
    core = _little(data[14:18]) == _BMP_CORE
    if len(data) < 26:
        raise CorruptImage(_NO_PICTURE)
    width, height = struct.unpack_from("<HH" if core else "<Ii", data, 18)
    return width, abs(height)  # a negative one: its rows begin at the top


def webp_size(data: bytes) -> Size:
    """Width and height of the canvas, which Pillow allocates twice before it tells its size."""
    if (declared := 8 + _little(data[4:8])) > len(data):
        raise CorruptImage(f"it is cut off after {len(data)} of {declared} bytes")
    chunk, body = data[12:16], data[20:30]
    if chunk == b"VP8X" and len(body) == 10:
        return _little(body[4:7]) + 1, _little(body[7:10]) + 1
    if chunk == b"VP8 " and body[3:6] == b"\x9d\x01\x2a":
        return _little(body[6:8]) & 0x3FFF, _little(body[8:10]) & 0x3FFF
    if chunk == b"VP8L" and body[:1] == b"\x2f":
        sizes = _little(body[1:5])
        return (sizes & 0x3FFF) + 1, (sizes >> 14 & 0x3FFF) + 1
    raise CorruptImage(_NO_PICTURE)


def webp_with_alpha(data: bytes) -> bytes:
    """The WebP, where it is an animation as one that has alpha: what no frame covers is transparent.

    Where all frames are opaque writers leave that flag out, and Pillow shows black there.
    """
    flags = data[_WEBP_FLAGS]
    if data[12:16] != b"VP8X" or not flags & _WEBP_ANIMATION or flags & _WEBP_ALPHA:
        return data
    return b"".join((data[:_WEBP_FLAGS], bytes([flags | _WEBP_ALPHA]), memoryview(data)[_WEBP_FLAGS + 1 :]))


def gif_size(data: bytes) -> tuple[Size, Box]:
    """Width and height of the screen, widened to hold the first frame as Pillow does; and that frame's place."""
    width, height = _little(data[6:8]), _little(data[8:10])
    start = _first_gif_frame(data[:_MAX_GIF_HEAD])[0] + 1
    left, top, frame_width, frame_height = (_little(data[at : at + 2]) for at in range(start, start + 8, 2))
    frame = left, top, left + frame_width, top + frame_height
    return (max(width, frame[2]), max(height, frame[3])), frame


def bare_gif(data: bytes) -> bytes:
    """The GIF with nothing before its first frame but palette and controls, which Pillow might read otherwise."""
    head = data[:_MAX_GIF_HEAD]
    start, controls = _first_gif_frame(head)
    return b"".join((head[: _behind_gif_palette(head)], *controls, memoryview(data)[start:]))


def _behind_gif_palette(head: bytes) -> int:
    flags = head[10] if len(head) > 10 else 0
    return 13 + (3 << (flags & 7) + 1 if flags & 0x80 else 0)


def _first_gif_frame(head: bytes) -> tuple[int, list[bytes]]:
    """Where the first frame begins, and the whole control extensions before it; what is no block is passed over."""
    position = _behind_gif_palette(head)
    controls: list[bytes] = []
    while block := _GIF_BLOCK.search(head, position):
        start, position = block.start(), block.end() + 1
        if block[0] == b",":
            return start, controls
        if block[0] == b";":
            break
        while length := _little(head[position : position + 1]):
            position += 1 + length
        position += 1
        if head.startswith(_GIF_CONTROL, start) and position == start + _GIF_CONTROL_BYTES:
            controls.append(head[start:position])
    raise CorruptImage(_NO_PICTURE)


def _little(data: bytes) -> int:
    return int.from_bytes(data, "little")
