"""How well a network does on images that it was not trained on."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from training.data.dataset import ImageSet, Normalization

_BATCH = 500


@dataclass(frozen=True, slots=True)
class Score:
    """Mean cross-entropy, and confusion [classes, classes]: how many images of class `row` were taken for `column`."""

    loss: float
    confusion: Tensor

    @property
    def accuracy(self) -> float:
        """The share of images whose class was named."""
        return int(self.confusion.trace()) / int(self.confusion.sum())


@torch.inference_mode()
def evaluate(network: nn.Module, images: ImageSet, normalization: Normalization) -> Score:
    """Score a network in fp32, as it will be released, on all images; it is left in evaluation mode."""
    network.eval()
    device = next((parameter.device for parameter in network.parameters()), torch.device("cpu"))
    classes, loss = len(images.classes), 0.0
    confusion = torch.zeros(classes * classes, dtype=torch.int64)
    for first in range(0, len(images), _BATCH):
        pixels, labels = images.images[first : first + _BATCH].to(device), images.labels[first : first + _BATCH]
        logits = network(normalization(pixels.float()).contiguous(memory_format=torch.channels_last)).cpu()
        loss += F.cross_entropy(logits, labels, reduction="sum").item()
        confusion += torch.bincount(labels * classes + logits.argmax(1), minlength=classes * classes)
    return Score(loss / len(images), confusion.view(classes, classes))
