"""How much memory decoding an image takes, by what its header declares."""

import math
from collections.abc import Callable

from models.images.av1 import avif_size
from models.images.base_media import largest_picture
from models.images.errors import CorruptImage
from models.images.headers import bmp_size, gif_size, webp_size
from models.images.image_type import ImageType, image_type
from models.images.jpeg import jpeg_frame
from models.images.picture import Size
from models.images.png import png_header
from models.images.tiff import first_page

# Bytes a pixel at the most: Pillow's image, four but for grey and palettes, and the one that it is converted to; for
# WebP also the decoder's two canvases and the frame that it hands over; for GIF the frame before it meets the canvas;
# for TIFF a strip of as many rows as there are, of four samples of 16 bits; for AVIF and HEIC planes of 16 bits, their
# conversion and the copy that is handed over.
_BYTES = {"png": 8, "bmp": 8, "gif": 12, "webp": 20, "jpeg": 8, "tiff": 16, "avif": 20, "heic": 24}
_TRANSPARENT_PNG = 9  # of 16 bits a sample, whose low bytes are decoded as another image, and alpha
_COEFFICIENTS = 6  # bytes a pixel of a progressive JPEG without subsampling: 16 bits for each of three components
_SCALES = (8, 4, 2, 1)  # denominators by which libjpeg shrinks while it decodes


def decoding_bytes(data: bytes, shorter_side: int | None) -> int:
    """Most memory that is needed at a time; 0 if the header is damaged, which the decoder will find.

    `shorter_side`: the length to which a JPEG may be shrunk while it is decoded.
    """
    kind = image_type(data)
    if kind is None:
        return 0
    try:
        if kind == "jpeg":
            return _jpeg_bytes(data, shorter_side)
        width, height = _SIZES[kind](data)
        sixteen_bits = kind == "png" and png_header(data).depth == 16
    except CorruptImage:
        return 0
    return (_TRANSPARENT_PNG if sixteen_bits else _BYTES[kind]) * width * height


_SIZES: dict[ImageType, Callable[[bytes], Size]] = {
    "png": lambda data: png_header(data)[:2],
    "bmp": bmp_size,
    "gif": lambda data: gif_size(data)[0],
    "webp": webp_size,
    "tiff": lambda data: max(first_page(data)[:2], key=math.prod),  # of the page, and of a tile, which is decoded whole
    "avif": avif_size,
    "heic": largest_picture,
}


def _jpeg_bytes(data: bytes, shorter_side: int | None) -> int:
    width, height, _, progressive = jpeg_frame(data)
    shrinks = (scale for scale in _SCALES if shorter_side and min(width, height) // scale >= shorter_side)
    scale = next(shrinks, 1)
    coefficients = _COEFFICIENTS * width * height if progressive else 0
    return _BYTES["jpeg"] * -(-width // scale) * -(-height // scale) + coefficients
