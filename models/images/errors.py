"""Why bytes are no picture that can be classified; the messages are fit for the client."""

from models.images.image_type import ImageType


class ImageError(Exception):
    """The bytes are not an image that can be classified; the message is fit for the client."""


class UnsupportedImage(ImageError):
    """The bytes are of no type that is taken; `could_be` names the type that could be taken."""

    def __init__(self, message: str, could_be: ImageType | None = None) -> None:
        super().__init__(message)
        self.could_be = could_be


class ImageTooLarge(ImageError):
    """There are more pixels to decode than are allowed."""


class CorruptImage(ImageError):
    """The bytes say that they are an image and do not decode."""
