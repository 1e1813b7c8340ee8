"""How much memory decoding an image takes, by what its header declares."""

from models.images.errors import CorruptImage
from models.images.headers import bmp_size, gif_size, webp_size
from models.images.image_type import ImageType, image_type
from models.images.jpeg import jpeg_frame
from models.images.picture import Size
from models.images.png import png_header

# Bytes a pixel at the most: Pillow's image, four but for grey and palettes, and the one that it is converted to; for
# WebP also the decoder's two canvases and the frame that it hands over; for GIF the frame before it meets the canvas.
_BYTES = {"png": 8, "bmp": 8, "gif": 12, "webp": 20, "jpeg": 8}
_TRANSPARENT_PNG = 9  # of 16 bits a sample, whose low bytes are decoded as another image, and alpha
_COEFFICIENTS = 6  # bytes a pixel of a progressive JPEG without subsampling: 16 bits for each of three components
_SCALES = (8, 4, 2, 1)  # denominators by which libjpeg shrinks while it decodes


def decoding_bytes(data: bytes, shorter_side: int | None) -> int:
    """Most memory that is needed at a time; 0 if the header is damaged, which the decoder will find.

    `shorter_side`: the length to which a JPEG may be shrunk while it is decoded.
    """
    kind = image_type(data)
    try:
        if kind == "jpeg":
            return _jpeg_bytes(data, shorter_side)
        if kind == "png":
            header = png_header(data)
            return (_TRANSPARENT_PNG if header.depth == 16 else _BYTES[kind]) * header.width * header.height
        if kind is None:
            return 0
        width, height = _size(kind, data)
    except CorruptImage:
        return 0
    return _BYTES[kind] * width * height


def _size(kind: ImageType, data: bytes) -> Size:
    if kind == "bmp":
        return bmp_size(data)
    return webp_size(data) if kind == "webp" else gif_size(data)[0]


def _jpeg_bytes(data: bytes, shorter_side: int | None) -> int:
    width, height, _, progressive = jpeg_frame(data)
    shrinks = (scale for scale in _SCALES if shorter_side and min(width, height) // scale >= shorter_side)
    scale = next(shrinks, 1)
    coefficients = _COEFFICIENTS * width * height if progressive else 0
    return _BYTES["jpeg"] * -(-width // scale) * -(-height // scale) + coefficients
