"""How well a network or a model does on labelled images that it was not trained on."""

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from models.engines.engine import Infer
from models.images.preprocessing import Preprocessing
from training.data.dataset import ImageSet, Normalization, renamed
from training.data.served_images import batch_size, served_batches
from training.data.sources import Images
from training.errors import DataError
from training.stages import Stages


@dataclass(frozen=True, slots=True)
class Score:
    """Mean cross-entropy, and confusion [classes, classes]: how many images of class `row` were taken for `column`."""

    loss: float
    confusion: Tensor

    @property
    def accuracy(self) -> float:
        """The share of images whose class was named."""
        return int(self.confusion.trace()) / int(self.confusion.sum())

    def is_better(self, other: "Score") -> bool:
        """Whether the accuracy is higher, or the same at a lower loss."""
        return (self.accuracy, -self.loss) > (other.accuracy, -other.loss)


class ScoreSums:
    """Sums over batches of logits, which make a score."""

    def __init__(self, classes: int) -> None:
        self.confusion = torch.zeros((classes, classes), dtype=torch.int64)
        self.loss = 0.0

    def add(self, logits: Tensor, labels: Tensor) -> None:
        """Count logits [n, classes] for images with these labels [n]."""
        self.loss += F.cross_entropy(logits, labels, reduction="sum").item()
        classes = len(self.confusion)
        pairs = torch.bincount(labels * classes + logits.argmax(1), minlength=classes * classes)
        self.confusion += pairs.view(classes, classes)

    def score(self) -> Score:
        """Return the score on all that was added; DataError if that was nothing."""
        if not (count := int(self.confusion.sum())):
            raise _none_read()
        return Score(self.loss / count, self.confusion)


def _none_read() -> DataError:
    return DataError("none of the images can be read; `resnet-train inspect` tells why, give images that it counts")


def standard_error(accuracy: float, images: int) -> float:
    """Return the binomial one, of Laplace's estimate: that of an accuracy of 0 or 1 on few images is not 0."""
    share = (accuracy * images + 1) / (images + 2)
    return math.sqrt(share * (1 - share) / max(images, 1))


@torch.inference_mode()
def score_network(network: nn.Module, images: ImageSet, normalization: Normalization) -> Score:
    """Score a network in fp32, as it will be released, on all images; it is left in evaluation mode."""
    network.eval()
    device = next((parameter.device for parameter in network.parameters()), torch.device("cpu"))
    sums = ScoreSums(len(images.classes))
    batch = batch_size(*images.images.shape[2:])
    for first in range(0, len(images), batch):
        pixels, labels = images.images[first : first + batch].to(device), images.labels[first : first + batch]
        logits = network(normalization(pixels.float()).contiguous(memory_format=torch.channels_last)).cpu()
        sums.add(logits, labels)
    return sums.score()


def score_model(
    infer: Infer, labels: tuple[str, ...], preprocessing: Preprocessing, images: Images, stages: Stages
) -> Score:
    """Score what turns pixels [n, h, w, c] into logits of these labels, on the pixels that a server would give it.

    Classes are matched by name; DataError names those of the images that the model does not know.
    """
    sums, known = ScoreSums(len(labels)), renamed(images, labels, "the data")
    batches = served_batches(known, preprocessing)
    for pixels, truth in stages.track(batches, f"measuring {len(images):,} images", len(images), _count):
        sums.add(torch.from_numpy(infer(pixels)), truth)
    return sums.score()


@dataclass(frozen=True, slots=True)
class PairedScore:
    """How often two models name the same class, of how many images; and their scores, where the classes are known."""

    images: int
    agreement: float
    scores: tuple[Score, Score] | None


def score_pair(
    models: tuple[Infer, Infer],
    labels: tuple[str, ...],
    preprocessing: Preprocessing,
    images: Images,
    *,
    labelled: bool,
    stages: Stages,
) -> PairedScore:
    """Compare two models of the same labels and preprocessing on images, whose classes count if they are `labelled`."""
    sums, same, count = [ScoreSums(len(labels)) for _ in models], 0, 0
    known = renamed(images, labels, "the data") if labelled else images
    batches = served_batches(known, preprocessing)
    for pixels, truth in stages.track(batches, f"comparing {len(images):,} images", len(images), _count):
        logits = [torch.from_numpy(infer(pixels)) for infer in models]
        same += int((logits[0].argmax(1) == logits[1].argmax(1)).sum())
        count += len(pixels)
        if labelled:
            for each, found in zip(sums, logits, strict=True):
                each.add(found, truth)
    if not count:
        raise _none_read()
    return PairedScore(count, same / count, (sums[0].score(), sums[1].score()) if labelled else None)


def _count(batch: tuple[NDArray[np.uint8], Tensor]) -> int:
    return len(batch[1])
