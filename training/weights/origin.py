"""Proof that a network answers as its origin did: by logits that the origin gave, or pictures with known classes."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from models.engines.engine import Engine
from models.images.decoder import MAX_PIXELS, Preprocessor
from models.images.errors import ImageError
from models.images.preprocessing import Preprocessing
from models.postprocess import softmax
from training.errors import UsageError, WeightsError
from training.weights.reference_file import read_arrays

REFERENCE_BOUND = 1e-3
"""Largest |difference| from the origin's logits, as a fraction of the largest: other kernels in fp32 stay far below."""

NOT_SEEN = (
    "not seen: a network with weights of the same names that computes something else (another activation, blur before "
    "it halves the picture, another place of the stride) is told from this one only by --reference FILE or --expect "
    "PICTURE=LABEL"
)


@dataclass(frozen=True, slots=True)
class Reference:
    """What the origin answered: `logits`, float [n, outputs].

    `inputs` are float [n, channels, height, width], normalised, or uint8 pixels [n, height, width, channels].
    """

    name: str
    inputs: Tensor
    logits: Tensor

    @classmethod
    def read(cls, path: Path) -> "Reference":
        """Read `inputs` and `logits` from a .npz, .safetensors or PyTorch file; WeightsError if they are not there."""
        arrays = read_arrays(path)
        if "inputs" not in arrays:
            raise WeightsError(
                f"{path} holds logits without inputs: save both, what the origin was given and its answers"
            )
        inputs, logits = arrays["inputs"], arrays["logits"]
        if inputs.ndim != 4 or logits.ndim != 2 or len(inputs) != len(logits) or not len(inputs):
            raise WeightsError(
                f"{path} has inputs {list(inputs.shape)} and logits {list(logits.shape)}; needed are [n, channels, "
                "height, width], or uint8 [n, height, width, channels], and [n, classes]"
            )
        return cls(path.name, inputs, logits.float())

    def compare(self, network: nn.Module, engine: Engine, shape: tuple[int, int, int], one_output: bool) -> str:
        """Return a sentence on how near the answers are; WeightsError if they are others.

        Floats go to the network behind its normalisation, pixels of `shape` [height, width, channels] to the engine.
        """
        expected = torch.cat([torch.zeros_like(self.logits), self.logits], 1) if one_output else self.logits
        answers = self._answers(network, engine, shape)
        if answers.shape != expected.shape:
            raise WeightsError(
                f"{self.name} has {expected.shape[1]} logits for each input, the network {answers.shape[1]}"
            )
        largest, difference = float(expected.abs().max()), float((answers - expected).abs().max())
        differing = int((answers.argmax(1) != expected.argmax(1)).sum())
        if differing or not difference <= REFERENCE_BOUND * largest:  # also when it is not a number
            raise WeightsError(
                f"this is not the function of the origin: logits of {self.name} differ by {difference:.3g}, which is "
                f"{difference / max(largest, 1e-30):.1%} of the largest, where {REFERENCE_BOUND:.1%} is allowed, and "
                f"{differing} of {len(expected)} classes. The origin computes something else with these weights, or "
                "ran in less than fp32 (half precision, TF32), or not in evaluation mode, or with weights of fp32 that "
                "were rounded since, as those in a file of bf16 or fp16 are"
            )
        seen = "pixels" if self.inputs.dtype == torch.uint8 else "inputs"
        return f"{len(expected)} {seen} of {self.name} are answered as by the origin: logits differ by {difference:.1e}"

    def _answers(self, network: nn.Module, engine: Engine, shape: tuple[int, int, int]) -> Tensor:
        if self.inputs.dtype != torch.uint8:
            try:
                with torch.inference_mode():
                    answers: Tensor = network(self.inputs.float())
            except RuntimeError as error:
                raise WeightsError(
                    f"the network does not take inputs {list(self.inputs.shape)} of {self.name}: needed are [n, "
                    f"{shape[2]}, {shape[0]}, {shape[1]}]"
                ) from error
            return answers
        if tuple(self.inputs.shape[1:]) != shape:
            raise WeightsError(f"{self.name} has pixels {list(self.inputs.shape)}; needed are [n, {shape}] as imported")
        return torch.from_numpy(engine.run(self.inputs.numpy()))


def check_expected(
    words: Sequence[str], labels: tuple[str, ...], preprocessing: Preprocessing, engine: Engine
) -> str | None:
    """Classify each picture of PICTURE=LABEL as the server will; a sentence, None without words.

    UsageError if a word cannot be read, WeightsError if a picture is taken for another class.
    """
    told = []
    for word in words:
        path, label = _expected(word, labels)
        logits = engine.run(_pixels(path, preprocessing)[None])
        probabilities = softmax(logits)[0]
        found = labels[int(probabilities.argmax())]
        if found != label:
            raise WeightsError(
                f"{path} is taken for {found!r} ({probabilities.max():.3f}), expected is {label!r}: the origin "
                "computes something else, or mean, deviation, sizes or the order of labels are not its own"
            )
        told.append(f"{path.name} is {label} ({probabilities.max():.3f})")
    return f"as expected, {', '.join(told)}" if told else None


def _expected(word: str, labels: tuple[str, ...]) -> tuple[Path, str]:
    """The picture, and its class, by name or index."""
    picture, separator, label = word.rpartition("=")
    if not separator:
        raise UsageError(f"--expect {word}: needed is PICTURE=LABEL, such as cat.jpg=cat")
    if label not in labels and label.isdecimal() and int(label) < len(labels):
        label = labels[int(label)]
    if label not in labels:
        raise UsageError(f"--expect {word}: there is no label {label!r}; choose one of {', '.join(labels[:5])} ...")
    return Path(picture), label


def _pixels(path: Path, preprocessing: Preprocessing) -> NDArray[np.uint8]:
    try:
        return Preprocessor(preprocessing, MAX_PIXELS)(path.read_bytes())
    except OSError as error:
        raise WeightsError(f"{path} cannot be read: {error.strerror}") from error
    except ImageError as error:
        raise WeightsError(f"{path} is no picture that the server reads: {error}") from error
