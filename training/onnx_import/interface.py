"""What an ONNX file takes and gives: where a picture's channels are, and which of its outputs tells classes."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.artifact.artifact import LARGEST_INPUT
from training.errors import OnnxImportError
from training.onnx_import.source import OnnxSource
from training.options import LayoutChoice

_CHANNELS = (3, 1)
"""Channels of a picture: colour or grey."""

_SIDES = {"nchw": (2, 3), "nhwc": (1, 2)}
_CHANNEL_AXIS = {"nchw": 1, "nhwc": 3}

_SUM_ERROR = 5e-3
"""Largest |difference| from 1 of the sum of probabilities in half precision."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Interface:
    """`shape` is height, width, channels of the input; `classes` the numbers that `output` has for a picture."""

    layout: LayoutChoice
    shape: tuple[int, int, int]
    output: str
    classes: int
    probabilities: bool
    """Whether those are none below 0 and sum to 1."""

    @property
    def arranged_shape(self) -> tuple[int, int, int]:
        """The lengths of the input's axes behind the batch."""
        height, width, channels = self.shape
        return (channels, height, width) if self.layout == "nchw" else self.shape


def find_interface(
    source: OnnxSource, *, layout: LayoutChoice | None, side: int | None, output: str | None, labels: int | None
) -> Interface:
    """Find out by the graph's shapes and by trying; `side`, `output` and `labels` (how many) where these do not tell.

    OnnxImportError names what is unknown, or contradicts what was said.
    """
    found = [shape for shape in _shapes(source, layout, side) if _runs(source, *shape)]
    if not found:
        raise OnnxImportError(
            f"the graph's input {source.input.name} has the shape {source.input.shape}, and ONNX Runtime runs it on "
            "pictures of 3 channels or of 1 neither as [n, channels, height, width] nor as [n, height, width, channels]"
            "; give a classifier of such pictures"
        )
    if len({kind for kind, _ in found}) > 1:
        raise OnnxImportError(
            f"the graph's input {source.input.name} has the shape {source.input.shape}, which may be [n, channels, "
            "height, width] or [n, height, width, channels]: say --layout nchw or nhwc"
        )
    kind, shape = found[0]
    name, values = _choose_output(source, _noise(source, kind, shape), output, labels)
    return Interface(layout=kind, shape=shape, output=name, classes=values.shape[1], probabilities=sum_to_one(values))


def as_rows(values: NDArray[np.float32]) -> NDArray[np.float32] | None:
    """Scores [n, classes] of an output that has such, whatever axes of length 1 it has beside them; else None."""
    if values.ndim < 2 or max(values.shape[1:]) != int(np.prod(values.shape[1:])):
        return None
    return values.reshape(len(values), -1)


def _shapes(
    source: OnnxSource, layout: LayoutChoice | None, side: int | None
) -> list[tuple[LayoutChoice, tuple[int, int, int]]]:
    """Each layout and (height, width, channels) that the declared shape allows."""
    declared = source.input.shape
    if len(declared) != 4:
        raise OnnxImportError(
            f"the graph's input {source.input.name} has the shape {declared}, and pictures have four axes: "
            "[n, channels, height, width] or [n, height, width, channels]; give a classifier of pictures"
        )
    layouts: tuple[LayoutChoice, ...] = (layout,) if layout else ("nchw", "nhwc")
    certain = [kind for kind in layouts if declared[_CHANNEL_AXIS[kind]] in _CHANNELS]
    possible: list[tuple[LayoutChoice, tuple[int, int, int]]] = []
    for kind in certain or layouts:
        channels = declared[_CHANNEL_AXIS[kind]]
        height, width = (declared[axis] for axis in _SIDES[kind])
        if isinstance(channels, int) and channels not in _CHANNELS:
            continue
        _check_side(source, height, width, side)
        counts = (channels,) if isinstance(channels, int) else _CHANNELS
        sides = _length(source, height, side), _length(source, width, side)
        _check_size(*sides, counts[0])
        possible += [(kind, (*sides, count)) for count in counts]
    return possible


def _length(source: OnnxSource, declared: int | str | None, side: int | None) -> int:
    if isinstance(declared, int):
        return declared
    if side is None:
        raise OnnxImportError(f"the graph of {source.path.name} takes pictures of any size: say --size")
    return side


def _check_side(source: OnnxSource, height: object, width: object, side: int | None) -> None:
    fixed = [length for length in (height, width) if isinstance(length, int)]
    if side and fixed and side not in fixed:
        raise OnnxImportError(
            f"the graph of {source.path.name} takes pictures of {height} x {width}, and --size or its configuration "
            f"says {side}"
        )


def _check_size(height: int, width: int, channels: int) -> None:
    if (size := height * width * channels) > LARGEST_INPUT:
        raise OnnxImportError(
            f"a picture of {height} x {width} takes {size:,} bytes, and {LARGEST_INPUT:,} are served at most: give a "
            "classifier of smaller ones"
        )


def _runs(source: OnnxSource, layout: LayoutChoice, shape: tuple[int, int, int]) -> bool:
    try:
        source.run(_noise(source, layout, shape)[:1], [source.session.get_outputs()[0].name])
    except OnnxImportError:
        return False
    return True


def _noise(source: OnnxSource, layout: LayoutChoice, shape: tuple[int, int, int]) -> NDArray[np.float32]:
    """A few pictures of levels from 0 to 1, or of bytes."""
    height, width, channels = shape
    size = (channels, height, width) if layout == "nchw" else shape
    levels = np.random.default_rng(0).random((4, *size), np.float32)
    return 255 * levels if source.dtype == np.uint8 else levels


def _choose_output(
    source: OnnxSource, pictures: NDArray[np.float32], wanted: str | None, labels: int | None
) -> tuple[str, NDArray[np.float32]]:
    """The output that was asked for, or the only one that may be meant, and its values [n, classes]."""
    outputs = [each.name for each in source.session.get_outputs() if each.type.startswith("tensor(")]
    if wanted and wanted not in outputs:
        raise OnnxImportError(f"the graph has no output {wanted!r}; it has {_names(source)}")
    if not outputs:
        raise OnnxImportError(f"no output is a tensor: {_names(source)}; export the network with its logits as one")
    names = [wanted] if wanted else outputs
    rows = {name: as_rows(values) for name, values in zip(names, source.run(pictures, names), strict=True)}
    scores = {name: values for name, values in rows.items() if values is not None}
    if not scores:
        raise OnnxImportError(f"no output has one number for each class of a picture: {_names(source)}")
    fitting = {name: values for name, values in scores.items() if labels in (None, *_numbers(values))} or scores
    logits = {name: values for name, values in fitting.items() if not sum_to_one(values)} or fitting
    if len(logits) > 1:
        raise OnnxImportError(
            f"several outputs may tell the classes: {', '.join(logits)}; say which by --output (all: {_names(source)})"
        )
    return next(iter(logits.items()))


def _numbers(values: NDArray[Any]) -> tuple[int, ...]:
    """How many labels may belong to these scores: one number tells two classes apart."""
    return (2,) if values.shape[1] == 1 else (values.shape[1],)


def sum_to_one(scores: NDArray[np.float32]) -> bool:
    """Whether scores [n, classes] of two classes or more are probabilities, in half precision at least."""
    return scores.shape[1] > 1 and bool((scores >= 0).all() and np.abs(scores.sum(1) - 1).max() < _SUM_ERROR)


def _names(source: OnnxSource) -> str:
    return ", ".join(f"{each.name} {each.shape}" for each in source.session.get_outputs())
