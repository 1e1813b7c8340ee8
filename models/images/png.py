"""PNG files: what a decoder needs of them, what they say of themselves, and how many rows their data hold.

Pillow parses chunks in Python, one by one: ten megabytes of empty ones hold it for seconds, and of compressed colour
profiles for half a minute. These functions bound that.
"""

import struct
import zlib
from collections.abc import Iterator
from typing import NamedTuple

from models.images.errors import CorruptImage

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_APPLES_CHUNK = b"CgBI"  # in front of the header: channels and compression are others
_CHUNKS_USED = frozenset({b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND"})
_OTHERS_USED = frozenset({b"tRNS", b"eXIf"})
_TEXTS = frozenset({b"tEXt", b"zTXt", b"iTXt"})
_RAW_EXIF, _XMP = b"Raw profile type exif", b"XML:com.adobe.xmp"  # texts that ImageMagick and Adobe write
_CHUNK = struct.Struct(">I4s")
_SIZE = struct.Struct(">12x4sII")  # of the first chunk: its kind, the picture's width and height
_HEADER = struct.Struct(">IIBBxxB")
_SAMPLES = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}  # of a pixel, by colour type
_EVERY_PIXEL = ((0, 0, 1, 1),)
# Adam7's passes: the first column and row, and the distance to the next (PNG specification, 8.2).
_PASSES = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))

# Limits, about ten times what cameras and editors write.
_MAX_CHUNKS = 16_384
_MAX_TEXT = 1 << 20  # bytes, decompressed

_INFLATED_AT_A_TIME = 1 << 16  # bytes

_Chunk = tuple[bytes, int, int]  # kind, start, end


def is_small_png(data: bytes, most_bytes: int, most_pixels: int) -> bool:
    """Whether this is a PNG of at most so many bytes, whose header tells of at most so many pixels."""
    if not _SIZE.size <= len(data) <= most_bytes:
        return False
    chunk, width, height = _SIZE.unpack_from(data)
    return bool(chunk == b"IHDR" and width * height <= most_pixels)


class PngHeader(NamedTuple):
    """What the first chunk declares."""

    width: int
    height: int
    depth: int
    colour: int
    interlaced: int


class StillPng(NamedTuple):
    """A PNG with only what its still picture needs: no animation, profiles, or anything behind its end."""

    header: PngHeader
    data: bytes
    ended: bool
    """Whether its last chunk is there."""
    parts: list[memoryview]
    """The coded data."""
    transparency: bytes
    """Content of the tRNS chunk."""
    exif: list[bytes]
    """One block, or none."""
    xmp: bytes

    def rows(self) -> int:
        """How many rows the data hold; CorruptImage if they are damaged."""
        passes = list(self._passes())
        left = self._inflated_bytes(sum(rows * row_bytes for _, _, rows, row_bytes in passes))
        first_missing = self.header.height
        for y, down, rows, row_bytes in passes:
            held = min(rows, left // row_bytes)
            left -= held * row_bytes
            if held < rows:
                first_missing, left = min(first_missing, y + held * down), 0
        return first_missing

    def _passes(self) -> Iterator[tuple[int, int, int, int]]:
        """Of each pass over the picture its first row, the distance to the next, how many, and how many bytes each."""
        width, height, depth, colour, interlaced = self.header
        for x, y, across, down in _PASSES if interlaced else _EVERY_PIXEL:
            columns, rows = -(-(width - x) // across), -(-(height - y) // down)
            if columns > 0 and rows > 0:
                yield y, down, rows, 1 + -(-columns * depth * _SAMPLES.get(colour, 1) // 8)

    def _inflated_bytes(self, most: int) -> int:
        """How many bytes the data inflate to, or somewhat more than `most`."""
        inflate, count = zlib.decompressobj(), 0
        try:
            for part in self.parts:
                coded: bytes | memoryview = part
                inflated = _INFLATED_AT_A_TIME
                while count < most and (coded or inflated == _INFLATED_AT_A_TIME) and not inflate.eof:
                    inflated = len(inflate.decompress(coded, _INFLATED_AT_A_TIME))
                    count += inflated
                    coded = inflate.unconsumed_tail
        except zlib.error:
            raise CorruptImage("its data are damaged") from None
        return count


def still_png(data: bytes) -> StillPng:
    """The picture alone; CorruptImage if it has too many chunks or two headers, or ends before its data begin."""
    header, view = png_header(data), memoryview(data)
    chunks = list(_chunks(data))
    parts = [view[start + 8 : end - 4] for kind, start, end in chunks if kind == b"IDAT"]
    if not parts:
        raise CorruptImage("it ends before its picture begins")
    if sum(kind == b"IHDR" for kind, _, _ in chunks) > 1:  # the last of which Pillow would take
        raise CorruptImage("it has two headers: save it anew")
    kept = [(start, end) for kind, start, end in chunks if kind in _CHUNKS_USED]
    if len(kept) == len(chunks):
        picture = data[: kept[-1][1]]
    else:
        picture = _SIGNATURE + b"".join(view[start:end] for start, end in kept)
    others = {kind: bytes(view[start + 8 : end - 4]) for kind, start, end in chunks if kind in _OTHERS_USED}
    exif = [others[b"eXIf"]] if b"eXIf" in others else [_hexadecimal(_text(data, chunks, _RAW_EXIF))]
    ended = chunks[-1][0] == b"IEND"
    return StillPng(header, picture, ended, parts, others.get(b"tRNS", b""), exif, _text(data, chunks, _XMP))


def png_header(data: bytes) -> PngHeader:
    """What the first chunk declares; CorruptImage if there is none."""
    start = len(_SIGNATURE) + _CHUNK.size
    if data.startswith(_APPLES_CHUNK, start - 4):
        raise CorruptImage("it is of Apple's own kind (CgBI), as in the package of an app: save it anew")
    if len(data) < start + _HEADER.size or data[start - 4 : start] != b"IHDR":
        raise CorruptImage("it ends before its picture begins")
    return PngHeader(*_HEADER.unpack_from(data, start))


def _chunks(data: bytes) -> Iterator[_Chunk]:
    """Each chunk's kind, start and end, up to the last; the end is beyond the data's where they are cut off."""
    start = len(_SIGNATURE)
    for _ in range(_MAX_CHUNKS):
        if start + _CHUNK.size > len(data):
            return
        length, kind = _CHUNK.unpack_from(data, start)
        yield kind, start, start + 12 + length
        if kind == b"IEND":
            return
        start += 12 + length
    raise CorruptImage(f"it has more than {_MAX_CHUNKS} chunks")


def _text(data: bytes, chunks: list[_Chunk], keyword: bytes) -> bytes:
    """The last text with this keyword, decompressed; nothing if that is damaged or too long."""
    keyed = [chunk for chunk in chunks if chunk[0] in _TEXTS and data.startswith(keyword + b"\0", chunk[1] + 8)]
    if not keyed:
        return b""
    kind, start, end = keyed[-1]
    content = data[start + 9 + len(keyword) : end - 4]
    compressed = kind == b"zTXt"
    if kind == b"iTXt":
        compressed = content[:1] == b"\1"
        content = b"".join(content[2:].split(b"\0", 2)[2:])
    elif compressed:
        content = content[1:]
    return _inflated_text(content) if compressed else content


def _inflated_text(content: bytes) -> bytes:
    inflate = zlib.decompressobj()
    try:
        text = inflate.decompress(content, _MAX_TEXT)
    except zlib.error:
        return b""
    return text if inflate.eof else b""


def _hexadecimal(profile: bytes) -> bytes:
    """The bytes of a profile as ImageMagick writes them: an empty line, a name, a length, then hexadecimal digits."""
    try:
        return bytes.fromhex("".join(profile.decode("latin-1").split("\n")[3:]))
    except ValueError:
        return b""
