"""Images of a data set as a server would see them: sent as files, decoded and preprocessed by the code that serves."""

from collections.abc import Iterator
from io import BytesIO
from itertools import islice

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from models.images.decoder import MAX_PIXELS, Preprocessor
from models.images.preprocessing import Preprocessing
from training.data.dataset import ImageSet
from training.data.image_files import FileSet
from training.data.sources import Images

_MOST_IN_BATCH, _BATCH_PIXELS = 256, 1 << 21
"""Images, and pixels, that a network is given at once: of 224 x 224 pixels 41, of which a ResNet-18 makes 0.3 GB."""


def batch_size(height: int, width: int) -> int:
    """Return how many images of this size a network is given at once to be measured, whatever it trained with."""
    return max(1, min(_MOST_IN_BATCH, _BATCH_PIXELS // (height * width)))


def served_batches(
    images: Images, preprocessing: Preprocessing, batch: int | None = None
) -> Iterator[tuple[NDArray[np.uint8], torch.Tensor]]:
    """Yield batches of pixels [n, h, w, c] and their labels [n].

    Image files are sent as they are, and passed over if they cannot be read; images in memory are sent as PNG.
    """
    batch = batch or batch_size(preprocessing.height, preprocessing.width)
    pairs = images.pixels(preprocessing) if isinstance(images, FileSet) else _sent(images, preprocessing)
    while pairs_of_batch := list(islice(pairs, batch)):
        pixels, labels = zip(*pairs_of_batch, strict=True)
        yield np.stack(pixels), torch.tensor(labels)


def _sent(images: ImageSet, preprocessing: Preprocessing) -> Iterator[tuple[NDArray[np.uint8], int]]:
    preprocessor = Preprocessor(preprocessing, MAX_PIXELS)
    for image, label in zip(images.images, images.labels.tolist(), strict=True):
        yield preprocessor(_png(image.permute(1, 2, 0).numpy())), label


def _png(array: NDArray[np.uint8]) -> bytes:
    """Pixels [h, w, c] as a PNG: nothing is lost."""
    stream = BytesIO()
    Image.fromarray(array.squeeze(2) if array.shape[2] == 1 else array).save(stream, "PNG", compress_level=1)
    return stream.getvalue()
