"""One reader a type: encoded bytes to a decoded picture, by Pillow's decoders."""

import math
from collections.abc import Callable
from io import BytesIO

import numpy as np
from PIL import Image
from PIL.BmpImagePlugin import BmpImageFile
from PIL.GifImagePlugin import GifImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.WebPImagePlugin import WebPImageFile

from models.images.errors import CorruptImage, ImageTooLarge
from models.images.headers import bare_gif, bmp_size, gif_size, webp_size, webp_with_alpha
from models.images.image_type import ImageType
from models.images.jpeg import bare_jpeg
from models.images.orientation import orientation
from models.images.picture import Demand, Picture, Size
from models.images.png import StillPng, png_header, still_png

MAX_JPEG_PIXELS = 1 << 28
"""Pixels that a JPEG may declare, however much it is shrunk: 0.1 s of decoding; phones of 200 megapixels have fewer."""

_MISSING_PART = 8  # a file without its end may lack a row in so many
_COMPARED_PIXELS = 1 << 19  # at a time
# What could as well have stood where a JPEG's data end: codes of all kinds up to each restart marker, and the end.
_OTHER_END = b"".join(bytes(range(254, 0, -1)) + bytes((0xFF, 0xD0 + i % 8)) for i in range(16)) + b"\xff\xd9"


def read_jpeg(data: bytes, demand: Demand) -> Picture:
    """A JPEG, shrunk if that is allowed; one without its end if most of its rows are there."""
    jpeg = bare_jpeg(data)
    image, extent = _decoded_jpeg(jpeg.data, demand)
    covered = None
    # Where data end, decoders see blocks of nothing but mid-grey, which hardly any picture has in its last corner.
    if not jpeg.ended or _is_mid_grey(image.getpixel((image.width - 1, image.height - 1))):
        other_end = bare_jpeg(data, alone=True).data[:-2] + _OTHER_END
        rows = _equal_rows(image, _decoded_jpeg(other_end, demand)[0])
        _check_rows(rows, image.height, jpeg.ended)
        if not jpeg.progressive:  # of which all rows are there, if some less fine
            covered = 0, 0, image.width, rows
    return Picture(image, extent, orientation(jpeg.exif, jpeg.xmp), covered)


def read_png(data: bytes, demand: Demand) -> Picture:
    """A PNG; one without its end if most of its rows are there."""
    header = png_header(data)
    size = header.width, header.height
    demand.check(size)
    png = still_png(data)
    image = _decoded_png(png)
    rows = header.height
    last_row = image.crop((0, image.height - 1, image.width, image.height))
    if not png.ended or header.interlaced or not any(last_row.tobytes()):  # as it is where nothing was decoded
        rows = png.rows()
        _check_rows(rows, header.height, png.ended)
    if png.transparency and header.colour in (0, 2):
        _make_transparent(image, png)
    return Picture(image, size, orientation(png.exif, png.xmp), (0, 0, image.width, rows))


def read_webp(data: bytes, demand: Demand) -> Picture:
    """A WebP, or the first frame of one."""
    demand.check(webp_size(data))
    image = WebPImageFile(BytesIO(webp_with_alpha(data)))
    image.load()
    return as_told(image)


def as_told(image: Image.Image) -> Picture:
    """A picture that fills its image, turned as Pillow has read in its EXIF or XMP."""
    exif = [image.info["exif"]] if "exif" in image.info else []
    return Picture(image, image.size, orientation(exif, image.info.get("xmp", b"")))


def read_gif(data: bytes, demand: Demand) -> Picture:
    """The first frame of a GIF, on its screen."""
    size, frame = gif_size(data)
    demand.check(size)
    image = GifImageFile(BytesIO(bare_gif(data)))
    image.load()
    return Picture(image, image.size, covered=frame)


def read_bmp(data: bytes, demand: Demand) -> Picture:
    """A BMP."""
    demand.check(bmp_size(data))
    image = BmpImageFile(BytesIO(data))
    image.load()
    return Picture(image, image.size)


READERS: dict[ImageType, Callable[[bytes, Demand], Picture]] = {
    "png": read_png,
    "jpeg": read_jpeg,
    "webp": read_webp,
    "bmp": read_bmp,
    "gif": read_gif,
}


def _decoded_jpeg(data: bytes, demand: Demand) -> tuple[Image.Image, tuple[float, float]]:
    """The image, shrunk while no side gets shorter than after the resize, and the picture's extent in it."""
    image = JpegImageFile(BytesIO(data))
    declared: Size = image.size
    extent: tuple[float, float] = declared
    if declared[0] * declared[1] > MAX_JPEG_PIXELS:
        raise ImageTooLarge(f"{declared[0]} x {declared[1]} pixels, at most {MAX_JPEG_PIXELS} are allowed in a JPEG")
    if demand.shorter_side:
        scale = demand.shorter_side / min(declared)
        drafted = image.draft(demand.mode, (math.ceil(declared[0] * scale), math.ceil(declared[1] * scale)))
        extent = drafted[1][2:] if drafted else declared
    demand.check(image.size, declared)
    image.load()
    return image, extent


def _is_mid_grey(pixel: float | tuple[int, ...] | None) -> bool:
    levels = pixel if isinstance(pixel, tuple) else (pixel,)
    return all(level in (127, 128) for level in levels)


def _equal_rows(one: Image.Image, other: Image.Image) -> int:
    """In how many rows from the top two images do not differ."""
    width, height = one.size
    step = max(1, _COMPARED_PIXELS // width)
    for top in range(0, height, step):
        box = 0, top, width, min(top + step, height)
        pixels = [np.asarray(image.crop(box)).reshape(box[3] - top, -1) for image in (one, other)]
        different = (pixels[0] != pixels[1]).any(axis=1)
        if different.any():
            return top + int(different.argmax())
    return height


def _check_rows(rows: int, height: int, ended: bool) -> None:
    """CorruptImage if too few rows are there."""
    if ended and rows < height:
        raise CorruptImage(f"its data end after {rows} of {height} rows")
    if rows < height - height // _MISSING_PART:
        raise CorruptImage(
            f"it is cut off after {rows} of {height} rows, of which at most 1/{_MISSING_PART} may be missing"
        )


def _decoded_png(png: StillPng, rawmode: str | None = None) -> Image.Image:
    image = PngImageFile(BytesIO(png.data))
    if rawmode:
        image.tile = [tile._replace(args=rawmode) for tile in image.tile]
    try:
        image.load()
    except OSError:  # the rows that there are have been decoded
        _check_rows(png.rows(), png.header.height, png.ended)
        if png.ended:
            raise
        image.tile = []
    return image


def _make_transparent(image: Image.Image, png: StillPng) -> None:
    """Let a grey or coloured PNG's transparent level (tRNS) be one that Pillow finds: of 8 bits, or as alpha.

    Pillow compares the level with samples that it has scaled to 8 bits. Of a level libpng takes the lowest bits.
    """
    samples = len(png.transparency) // 2
    mask = (1 << png.header.depth) - 1
    levels = tuple(int.from_bytes(png.transparency[2 * i : 2 * i + 2]) & mask for i in range(samples))
    if png.header.colour == 0:
        image.info["transparency"] = levels[0] if png.header.depth == 16 else levels[0] * (255 // mask)
    elif png.header.depth == 8:
        image.info["transparency"] = levels[:3]
    else:
        _add_alpha_of_sixteen_bits(image, _decoded_png(png, "RGB;16L"), levels[:3])


def _add_alpha_of_sixteen_bits(image: Image.Image, low_bytes: Image.Image, levels: tuple[int, ...]) -> None:
    """Alpha that is 0 where high and low bytes are those of a colour."""
    high, low = [level >> 8 for level in levels], [level & 255 for level in levels]
    width, height = image.size
    alpha = Image.new("L", image.size)
    step = max(1, _COMPARED_PIXELS // width)
    for top in range(0, height, step):
        box = 0, top, width, min(top + step, height)
        transparent = (np.asarray(image.crop(box)) == high) & (np.asarray(low_bytes.crop(box)) == low)
        alpha.paste(Image.fromarray(np.where(transparent.all(axis=2), 0, 255).astype(np.uint8)), box)
    del image.info["transparency"]
    image.putalpha(alpha)
