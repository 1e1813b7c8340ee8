"""Files of every type, mode, depth, transparency, orientation, interlace, subsampling and number of passes."""

import itertools
import struct
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import PngImagePlugin

from tests.models.images.pictures import chunk, encode, hand_made_png, noise, smooth

SIZE = 24, 36
PALETTE = np.random.default_rng(5).integers(0, 256, (256, 3), np.uint8)
# Adam7's passes: the first column and row, and the distance to the next (PNG specification, 8.2).
PASSES = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))
SAMPLES = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}  # of a pixel, by colour type
DEPTHS = {0: (1, 2, 4, 8, 16), 2: (8, 16), 3: (1, 2, 4, 8), 4: (8, 16), 6: (8, 16)}


class PngKind(NamedTuple):
    """One of the kinds that the PNG specification has, table 11.1, and whether it has a tRNS chunk."""

    colour: int
    depth: int
    transparent: bool
    interlaced: bool


PNG_KINDS = [
    PngKind(colour, depth, transparent, interlaced)
    for colour, depths in DEPTHS.items()
    for depth, transparent, interlaced in itertools.product(depths, (False, True), (False, True))
    if not transparent or colour < 4
]


def png_samples(kind: PngKind, size: tuple[int, int] = SIZE) -> NDArray[np.uint16]:
    """Of each pixel, few enough levels that a transparent one is met, and its neighbours in the low byte."""
    shape = size[1], size[0], SAMPLES[kind.colour]
    samples = np.random.default_rng(kind.depth).integers(0, 1 << kind.depth, shape, np.uint16)
    samples[::3] = samples[0, 0]
    if kind.depth == 16:
        samples[1::3] = samples[0, 0] ^ 1
    return samples


def png(kind: PngKind, *chunks: bytes, size: tuple[int, int] = SIZE) -> bytes:
    samples = png_samples(kind, size)
    passes = PASSES if kind.interlaced else ((0, 0, 1, 1),)
    parts = [samples[y::down, x::across] for x, y, across, down in passes]
    rows = b"".join(b"\0" + packed(row, kind.depth) for part in parts if part.size for row in part)
    if kind.colour == 3:
        chunks = (chunk(b"PLTE", PALETTE[: 1 << kind.depth].tobytes()), *chunks)
        transparency = bytes(range(0, 256, 256 >> kind.depth))
    else:
        transparency = samples[0, 0].astype(">u2").tobytes()
    if kind.transparent:
        chunks = (*chunks, chunk(b"tRNS", transparency))
    return hand_made_png(*size, kind.depth, kind.colour, rows, *chunks, interlaced=kind.interlaced)


def packed(row: NDArray[np.uint16], depth: int) -> bytes:
    if depth == 16:
        return row.astype(">u2").tobytes()
    bits = np.unpackbits(row.astype(np.uint8)[..., None], axis=-1)[..., 8 - depth :]
    return np.packbits(bits.ravel()).tobytes()


def png_by_the_book(kind: PngKind) -> NDArray[np.uint8]:
    """RGBA as the PNG specification has it, samples of 16 bits by their high byte."""
    samples = png_samples(kind)
    transparent = (samples == samples[0, 0]).all(axis=2) & kind.transparent
    levels = (samples >> 8 if kind.depth == 16 else samples * (255 // ((1 << kind.depth) - 1))).astype(np.uint8)
    alpha = np.where(transparent, 0, 255).astype(np.uint8)[..., None]
    if kind.colour == 3:
        levels = PALETTE[samples[..., 0]]
        if kind.transparent:
            alpha = (samples * (256 >> kind.depth)).astype(np.uint8)
    elif kind.colour >= 4:
        levels, alpha = levels[..., :-1], levels[..., -1:]
    return np.concatenate([np.broadcast_to(levels, (*levels.shape[:2], 3)), alpha], axis=2)


def jpegs(size: tuple[int, int] = SIZE) -> Iterator[tuple[str, bytes]]:
    images = {mode: smooth(mode, *size) for mode in ("L", "RGB", "CMYK", "YCbCr")}
    for mode, subsampling, progressive in itertools.product(images, (0, 1, 2), (False, True)):
        options = {"subsampling": subsampling, "progressive": progressive, "quality": 90}
        yield f"JPEG {mode} {subsampling} {'progressive' * progressive}", encode(images[mode], "JPEG", **options)
    yield "JPEG stored as RGB", encode(images["RGB"], "JPEG", keep_rgb=True)
    yield "JPEG with restarts", encode(images["RGB"], "JPEG", restart_marker_blocks=2)
    yield "JPEG with an end and a tail", encode(images["RGB"], "JPEG") + b"\xff\xd9\xff\xda" * 500
    for name, marker in (("without", b""), ("with another", adobe(0)), ("with YCCK's", adobe(2))):
        yield f"JPEG CMYK {name} Adobe marker", with_adobe(encode(images["CMYK"], "JPEG"), marker)


def adobe(transform: int) -> bytes:
    """Adobe's APP14: 0 for CMYK, 2 for YCCK."""
    return b"\xff\xee\0\x0eAdobe\0\x64\0\0\0\0" + bytes([transform])


def with_adobe(jpeg: bytes, marker: bytes) -> bytes:
    start = jpeg.index(b"\xff\xee")
    return jpeg[:start] + marker + jpeg[start + 16 :]


def others() -> Iterator[tuple[str, bytes]]:
    for mode, lossless in itertools.product(("RGB", "RGBA"), (False, True)):
        yield f"WebP {mode} {'lossless' * lossless}", encode(noise(mode, *SIZE), "WEBP", lossless=lossless, exact=True)
        frames = {"save_all": True, "append_images": [noise(mode, *SIZE).rotate(180)], "lossless": lossless}
        yield f"WebP {mode} {'lossless' * lossless} animated", encode(noise(mode, *SIZE), "WEBP", **frames)
    for mode, interlace in itertools.product(("1", "L", "P"), (False, True)):
        image = smooth("RGB", *SIZE).convert(mode)
        yield f"GIF {mode} {'interlaced' * interlace}", encode(image, "GIF", interlace=interlace)
        if mode != "1":
            yield f"GIF {mode} transparent", encode(image, "GIF", interlace=interlace, transparency=7)
    for mode in ("1", "L", "P", "RGB", "RGBA"):
        yield f"BMP {mode}", encode(noise("RGBA" if mode == "RGBA" else "RGB", *SIZE).convert(mode), "BMP")
    yield "BMP from the top", bmp_from_the_top()


def bmp_from_the_top() -> bytes:
    pixels = np.asarray(noise("RGB", *SIZE))[..., ::-1].tobytes()
    header = struct.pack("<IiiHHIIiiII", 40, SIZE[0], -SIZE[1], 1, 24, 0, len(pixels), 0, 0, 0, 0)
    return b"BM" + struct.pack("<IHHI", 54 + len(pixels), 0, 0, 54) + header + pixels


def exif(value: int, kind: int = 3, order: str = "<") -> bytes:
    """An EXIF block with an orientation: kind 3 is SHORT, 4 is LONG."""
    cell = struct.pack(order + ("Hxx" if kind == 3 else "I"), value)
    head = b"II*\0" if order == "<" else b"MM\0*"
    return b"Exif\0\0" + head + struct.pack(order + "IHHHI", 8, 1, 0x0112, kind, 1) + cell + bytes(4)


def turned(value: int) -> Iterator[tuple[str, bytes]]:
    """One picture, whose orientation is told in each way that Pillow knows."""
    image = smooth("RGB", *SIZE)
    xmp = f'<x:xmpmeta><rdf:Description tiff:Orientation="{value}"/></x:xmpmeta>'
    blocks = {f"{kind} {order}": exif(value, kind, order) for kind, order in itertools.product((3, 4), "<>")}
    for file_format in ("JPEG", "PNG", "WEBP"):
        for name, block in blocks.items():
            yield f"{file_format} {name}", encode(image, file_format, exif=block)
    yield "JPEG XMP", encode(image, "JPEG", xmp=xmp.encode())
    yield "JPEG XMP element", encode(image, "JPEG", xmp=f"<tiff:Orientation>{value}</tiff:Orientation>".encode())
    yield "JPEG both", encode(image, "JPEG", exif=exif(value), xmp=xmp.replace(str(value), "1").encode())
    yield "WEBP XMP", encode(image, "WEBP", xmp=xmp.encode())
    profile = f"\nexif\n{len(exif(value)):8}\n{exif(value).hex()}\n"
    for zipped in (False, True):
        texts = PngImagePlugin.PngInfo()
        texts.add_text("Raw profile type exif", profile, zip=zipped)
        yield f"PNG text {zipped}", encode(image, pnginfo=texts)
        texts = PngImagePlugin.PngInfo()
        texts.add_itxt("XML:com.adobe.xmp", xmp, zip=zipped)
        yield f"PNG XMP {zipped}", encode(image, pnginfo=texts)
    plain = encode(image)
    behind = chunk(b"eXIf", exif(value)[6:])
    yield "PNG behind the data", plain[:-12] + behind + plain[-12:]
