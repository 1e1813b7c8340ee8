"""Plain PNGs of the network's own size, straight through Pillow's decoder without the Python around it.

The pixels are Pillow's by construction: its C decoder makes them. What falls away is parsing chunks and building image
objects, most of the time that so small a picture takes. Every other PNG is left to Pillow as a whole.
"""

import struct
import zlib
from typing import Any, Literal

from PIL import _imaging

_CORE: Any = _imaging
_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_END = b"\0\0\0\0IEND\xaeB`\x82"
_COLOUR_TYPES = {"L": 0, "RGB": 2}  # PNG specification, table 11.1
_LENGTH = struct.Struct(">I")
_UNWRITTEN = 0xA5  # a level that hardly any picture's last row has throughout


class PlainPng:
    """Decodes PNGs of one mode and size that hold one IDAT chunk and nothing besides; 8 bits a sample, no interlace."""

    def __init__(self, mode: Literal["L", "RGB"], width: int, height: int) -> None:
        header = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, _COLOUR_TYPES[mode], 0, 0, 0)
        self._head = _SIGNATURE + _LENGTH.pack(13) + header + _LENGTH.pack(zlib.crc32(header))
        self._mode, self._size, self._box = mode, (width, height), (0, 0, width, height)
        self._bytes = width * height * len(mode)
        self._unwritten_row = bytes([_UNWRITTEN]) * width * len(mode)
        self._ink = int.from_bytes(self._unwritten_row[: len(mode)])

    def decode(self, data: bytes) -> bytes | None:
        """Samples row by row, or None for any other data."""
        if not data.startswith(self._head):
            return None
        start = len(self._head)
        end = start + 8 + int.from_bytes(data[start : start + 4])
        if data[start + 4 : start + 8] != b"IDAT" or data[end + 4 :] != _END:
            return None
        mode = self._mode
        image = _CORE.fill(mode, self._size, self._ink)
        decoder = _CORE.zip_decoder(mode, mode, 0)
        decoder.setimage(image, self._box)
        consumed, error = decoder.decode(data[start + 8 : end])
        if consumed != -1 or error:  # -1: the data are complete
            return None
        encoder = _CORE.raw_encoder(mode, mode, 0, 1)
        encoder.setimage(image, self._box)
        samples: bytes = encoder.encode(self._bytes)[2]
        return None if samples.endswith(self._unwritten_row) else samples  # a row may be missing


def is_supported() -> bool:
    """Whether this Pillow has the parts that are used here; they are not of its public interface."""
    return all(hasattr(_CORE, name) for name in ("fill", "zip_decoder", "raw_encoder"))
