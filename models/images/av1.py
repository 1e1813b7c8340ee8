"""How large the frames of an AV1 stream may be, by its sequence headers (AV1 specification, 5.3 and 5.5)."""

import math

from models.images.base_media import items, largest_picture
from models.images.errors import CorruptImage
from models.images.picture import Size

_SEQUENCE_HEADER = 1
_MAX_UNITS = 1_024  # a still picture has three


def avif_size(data: bytes) -> Size:
    """Width and height of the largest picture that an AVIF's boxes describe or its streams hold.

    The boxes may describe a small one and a stream hold a huge one, which is decoded before it is scaled.
    """
    return max(largest_picture(data), *map(largest_frame, items(data)), key=math.prod)


def largest_frame(stream: bytes) -> Size:
    """Width and height that no frame exceeds; (0, 0) if the stream has no sequence header."""
    sizes, position = [(0, 0)], 0
    for _ in range(_MAX_UNITS):
        if position >= len(stream):
            return max(sizes, key=math.prod)
        head = stream[position]
        position += 2 if head & 4 else 1  # an extension
        size = len(stream) - position
        if head & 2:
            size, position = _leb128(stream, position)
        if head >> 3 & 15 == _SEQUENCE_HEADER:
            sizes.append(_size(_Bits(stream[position : position + min(size, 256)])))
        position += size
    raise CorruptImage(f"it has more than {_MAX_UNITS} parts")


class _Bits:
    """Reads numbers from bits, the highest first; zeros behind their end."""

    def __init__(self, data: bytes) -> None:
        self._data, self._position = int.from_bytes(data) << 8, len(data) * 8 + 8

    def take(self, count: int) -> int:
        self._position = max(0, self._position - count)
        return self._data >> self._position & (1 << count) - 1


def _leb128(stream: bytes, position: int) -> tuple[int, int]:
    """A number of seven bits a byte, the lowest first, and what stands behind it."""
    number = 0
    for i, byte in enumerate(stream[position : position + 8]):
        number |= (byte & 127) << 7 * i
        if not byte & 128:
            return number, position + i + 1
    raise CorruptImage("its data are damaged")


def _size(bits: _Bits) -> Size:
    """Of a sequence header, up to max_frame_height_minus_1."""
    bits.take(4)  # profile, still picture
    if bits.take(1):  # the short form of still pictures
        bits.take(5)
    else:
        _pass_operating_points(bits)
    width_bits, height_bits = bits.take(4) + 1, bits.take(4) + 1
    return bits.take(width_bits) + 1, bits.take(height_bits) + 1


def _pass_operating_points(bits: _Bits) -> None:
    """Over timing, decoder model and operating points, from timing_info_present_flag on."""
    delay_bits = 0
    if bits.take(1):  # timing
        bits.take(64)
        if bits.take(1):  # ticks of a picture, as uvlc
            zeros = 0
            while not bits.take(1) and zeros < 32:
                zeros += 1
            bits.take(zeros)
        if bits.take(1):  # decoder model
            delay_bits = bits.take(5) + 1
            bits.take(42)
    initial_delay = bits.take(1)
    for _ in range(bits.take(5) + 1):
        bits.take(12)
        if bits.take(5) > 7:
            bits.take(1)
        if delay_bits and bits.take(1):
            bits.take(2 * delay_bits + 1)
        if initial_delay and bits.take(1):
            bits.take(4)
