"""How a server turns any picture into what a network trained here expects."""

from models.images.preprocessing import Crop, Polarity, Preprocessing
from training.data.dataset import ImageSet, Normalization


def preprocessing_spec(
    shape: tuple[int, int, int],
    resize: int,
    normalization: Normalization,
    *,
    crop: Crop = "center",
    polarity: Polarity = "as_is",
    draft: bool = True,
) -> Preprocessing:
    """Return the spec of pixels [channels, height, width]: the shorter side resized, and `crop`.

    Without `draft` a JPEG is decoded at full size, and its pixels are torchvision's to one grey level.
    """
    channels, height, width = shape
    mean, std = normalization.mean, normalization.std
    shown = (height, width, channels)
    return Preprocessing.usual(shown, resize, mean, std, crop=crop, polarity=polarity, draft=draft)


def spec_of_images(images: ImageSet, normalization: Normalization, crop: int | None = None) -> Preprocessing:
    """Return the spec that gives pictures like these, or the `crop` x `crop` pixels in the middle of such.

    Where these are not square, all of a picture is squeezed to their size.
    """
    _, channels, height, width = images.images.shape
    if crop is not None:
        shape = (channels, crop, crop)
        return preprocessing_spec(shape, min(height, width), normalization, polarity=images.polarity)
    return preprocessing_spec(
        (channels, height, width),
        max(height, width),
        normalization,
        crop="center" if height == width else "squash",
        polarity=images.polarity,
    )


def spec_of_files(channels: int, size: int, crop: int | None = None) -> Preprocessing:
    """Return how files are decoded to `size` x `size` pixels, or the `crop` x `crop` in the middle; not normalised."""
    identity = Normalization((0.0,) * channels, (1.0,) * channels)
    return preprocessing_spec((channels, crop or size, crop or size), size, identity)
