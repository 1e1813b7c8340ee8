"""How much memory decoding an image takes, by what its header declares."""

import struct

from models.images.headers import gif_size, image_type, jpeg_frame, webp_size

# Bytes a pixel at the most: Pillow's image, four but for grey and palettes, and the one that it is converted to; for
# WebP also the decoder's two canvases and the frame that it hands over; for GIF the frame before it meets the canvas.
_BYTES = {"png": 8, "bmp": 8, "gif": 12, "webp": 20, "jpeg": 8}
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
            size: tuple[int, int] = struct.unpack_from(">II", data, 16)
        elif kind == "bmp":
            size = struct.unpack_from("<ii", data, 18)
        elif kind in ("webp", "gif"):
            size = webp_size(data) if kind == "webp" else gif_size(data)
        else:
            return 0
    except (ValueError, struct.error):
        return 0
    return _BYTES[kind] * abs(size[0] * size[1])


def _jpeg_bytes(data: bytes, shorter_side: int | None) -> int:
    width, height, progressive = jpeg_frame(data)
    shrinks = (scale for scale in _SCALES if shorter_side and min(width, height) // scale >= shorter_side)
    scale = next(shrinks, 1)
    coefficients = _COEFFICIENTS * width * height if progressive else 0
    return _BYTES["jpeg"] * -(-width // scale) * -(-height // scale) + coefficients
