"""What an encoded image says about itself in its first bytes."""

from typing import Literal

ImageType = Literal["png", "jpeg", "webp", "bmp", "gif"]

_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_PNG_ANIMATION = (b"acTL", b"fcTL", b"fdAT")


def image_type(data: bytes) -> ImageType | None:
    """The type that the magic bytes tell, or None for any other."""
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


def webp_size(data: bytes) -> tuple[int, int]:
    """Width and height of the canvas in a WebP's first chunk; (0, 0) when there is none.

    Pillow's decoder allocates two canvases before it tells the size.
    """
    chunk, body = data[12:16], data[20:30]
    if chunk == b"VP8X" and len(body) == 10:
        return _little(body[4:7]) + 1, _little(body[7:10]) + 1
    if chunk == b"VP8 " and body[3:6] == b"\x9d\x01\x2a":
        return _little(body[6:8]) & 0x3FFF, _little(body[8:10]) & 0x3FFF
    if chunk == b"VP8L" and body[:1] == b"\x2f":
        sizes = _little(body[1:5])
        return (sizes & 0x3FFF) + 1, (sizes >> 14 & 0x3FFF) + 1
    return 0, 0


def gif_size(data: bytes) -> tuple[int, int]:
    """Width and height of a GIF's screen, widened to hold its first frame; (0, 0) without a frame.

    Pillow widens it before it tells the size, and warns when that is huge.
    """
    width, height, flags = _little(data[6:8]), _little(data[8:10]), data[10:11]
    position = 13 + _palette_bytes(flags)
    while data[position : position + 1] not in (b",", b";", b""):
        if data[position : position + 1] != b"!":
            position += 1  # Pillow skips what it does not know
            continue
        position += 2
        while size := data[position : position + 1].strip(b"\0"):
            position += 1 + size[0]
        position += 1
    if data[position : position + 1] != b",":
        return 0, 0
    left, top, frame_width, frame_height = (
        _little(data[start : start + 2]) for start in range(position + 1, position + 9, 2)
    )
    return max(width, left + frame_width), max(height, top + frame_height)


def still_png(data: bytes) -> bytes:
    """The PNG without its animation chunks: the still image that decoders without animation show.

    Pillow would warn of a broken animation, which nobody asked for.
    """
    if b"acTL" not in data:
        return data
    kept, position = [_PNG_SIGNATURE], len(_PNG_SIGNATURE)
    while position < len(data):
        end = position + 12 + int.from_bytes(data[position : position + 4], "big")
        if data[position + 4 : position + 8] not in _PNG_ANIMATION:
            kept.append(data[position:end])
        position = end
    return b"".join(kept)


def _palette_bytes(flags: bytes) -> int:
    return 3 << (flags[0] & 7) + 1 if flags and flags[0] & 0x80 else 0


def _little(data: bytes) -> int:
    return int.from_bytes(data, "little")
